//! A layer that compresses, and what tells that it is right whatever way its bytes arrive.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Flate};
use tepal_layers::check::{Bench, Case, Pair, Seen, check_layer};
use tepal_layers::{
    Error, ErrorKind, How, Info, Io, Layer, LayerSpec, Lines, Side, Site, Stack, Status,
};

/// Compresses what is written and decompresses what comes (raw deflate, flushed at each write).
#[derive(Debug)]
pub(crate) struct Deflate;

struct DeflateLayer {
    compress: Compress,
    decompress: Decompress,
}

impl LayerSpec for Deflate {
    fn name(&self) -> &'static str {
        "deflate"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(DeflateLayer {
            compress: Compress::new(Compression::fast(), false),
            decompress: Decompress::new(false),
        }))
    }
}

impl Layer for DeflateLayer {
    fn name(&self) -> &'static str {
        "deflate"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        // Bounded steps: a kilobyte of zeros may stand for a megabyte, so the way up is asked
        // before each piece.
        let mut piece = [0; 4096];
        while io.to_above.may_push() {
            let (seen, made) = (self.decompress.total_in(), self.decompress.total_out());
            let bytes = io.from_below.bytes();
            let status = self.decompress.decompress(bytes, &mut piece, FlushDecompress::None);
            let status = status
                .map_err(|_| Error::remote(ErrorKind::Malformed, "the peer's deflate is broken"))?;
            io.from_below.consume((self.decompress.total_in() - seen) as usize);
            let count = (self.decompress.total_out() - made) as usize;
            io.to_above.push(&piece[..count]);
            if status == Flate::BufError || count < piece.len() && io.from_below.bytes().is_empty()
            {
                break;
            }
        }
        while !io.from_above.is_empty() && io.to_below.room() > 0 {
            let written = io.from_above.bytes();
            let mut out = Vec::with_capacity(written.len() + 64);
            let seen = self.compress.total_in();
            // A failure needs wrong arguments; the room is there because the vector may grow.
            let _ = self.compress.compress_vec(written, &mut out, FlushCompress::None);
            io.from_above.consume((self.compress.total_in() - seen) as usize);
            loop {
                out.reserve(64);
                let room = out.capacity() - out.len();
                let made = self.compress.total_out();
                let _ = self.compress.compress_vec(&[], &mut out, FlushCompress::Sync);
                if ((self.compress.total_out() - made) as usize) < room {
                    break;
                }
            }
            io.to_below.send_vec(out);
        }
        Ok(if io.finishing() { Status::Done(How::Closed) } else { Status::Open })
    }
}

fn main() {
    let stack = Stack::new().with(Deflate);
    let text = "row, row, row your boat ".repeat(50);
    let mut bench = Bench::new(&stack, Side::Client).expect("a good stack");
    bench.write(text.as_bytes()).expect("open");
    let wire = bench.sent();
    assert!(wire.len() < 60);

    // The same bytes in every way in which they may arrive.
    let case = Case { stack: &stack, side: Side::Server, input: &wire, writes: &[], tail: b"" };
    let seen = check_layer(&case).expect("one outcome");
    assert_eq!(seen.last(), Some(&Seen::Data(text.into_bytes())));

    // Two of them with lines above, and a wire that brings three bytes at a time.
    let lines = stack.with(Lines::new(1024));
    let mut pair = Pair::new(&lines, &lines).expect("a good stack");
    pair.piece = 3;
    pair.client.write(b"one line").expect("open");
    pair.run();
    assert_eq!(pair.server.frames(), [b"one line"]);
}
