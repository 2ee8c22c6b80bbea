use std::fmt::{self, Write};

use tepal_base::Instant;

/// Everything that happened, as lines of text and as their hash (FNV-1a, 64 bits).
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    // None: lines are only hashed.
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(record: bool) -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, lines: record.then(Vec::new) }
    }

    pub(crate) fn line(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        let mut sink = Sink { hash: self.hash, text: self.lines.is_some().then(String::new) };
        // The sink itself never fails; a Display that does leaves a shorter line.
        let _ = write!(sink, "{now:?} {what}");
        self.hash = sink.hash.wrapping_mul(FNV_PRIME);
        if let (Some(lines), Some(text)) = (&mut self.lines, sink.text) {
            lines.push(text);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.clone().unwrap_or_default()
    }
}

struct Sink {
    hash: u64,
    text: Option<String>,
}

impl Write for Sink {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for byte in piece.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if let Some(text) = &mut self.text {
            text.push_str(piece);
        }
        Ok(())
    }
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
