use tepal::layers::{Error, How, Info, Io, Layer, LayerSpec, Site, Status, WriteEof};

/// A layer above a program's terminal: the end of what is written is typed, as a person does it. A
/// terminal cannot be ended in one direction, and closing it loses what the program has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyboard;

struct Typist {
    /// Nothing of a line was typed yet.
    line_begins: bool,
}

// Control-D: what stands before it is handed over, and where nothing does the input ends
// (termios(3), VEOF).
const END: u8 = 4;

impl LayerSpec for Keyboard {
    fn name(&self) -> &'static str {
        "keyboard"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(Typist { line_begins: true }))
    }
}

impl Layer for Typist {
    fn name(&self) -> &'static str {
        "keyboard"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        while io.to_below.room() > 0 && !io.from_above.is_empty() {
            let count = io.from_above.bytes().len().min(io.to_below.room());
            let typed = io.from_above.bytes().get(..count).unwrap_or_default();
            self.line_begins = typed.last() == Some(&b'\n');
            io.to_below.pass(&mut io.from_above, count);
        }
        if io.from_above.ended() && io.to_below.room() > 0 {
            io.from_above.take_eof();
            io.to_below.send(if self.line_begins { &[END] } else { &[END, END] });
        }
        io.to_above.pass(&mut io.from_below, usize::MAX);
        Ok(if io.finishing() { Status::Done(How::Closed) } else { Status::Open })
    }

    fn write_eof(&self) -> WriteEof {
        WriteEof::Taken
    }
}
