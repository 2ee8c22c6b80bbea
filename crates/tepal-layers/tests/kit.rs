//! What `check_layer` is worth: layers with one fault each, which it has to find.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tepal_base::Instant;
use tepal_layers::check::{Case, Seen, check_layer};
use tepal_layers::{
    Error, ErrorKind, How, Info, Io, Layer, LayerSpec, Passed, Side, Site, Stack, Status, ToAbove,
};

/// What is wrong with a [`Faulty`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// A message is as long as the piece that it came in.
    PieceIsMessage,
    /// What is left of a piece behind a message is dropped.
    DropsRest,
    /// Bytes before the last of a message are dropped.
    Forgets,
    /// The way up is not asked.
    IgnoresPause,
    /// The way down is not asked.
    IgnoresRoom,
    /// One write is sent for each that came.
    LeavesWrites,
    /// Each step sends something.
    CountsSteps,
    /// The short way does something else.
    OtherShortWay,
    /// It stands still at the end.
    HidesEnd,
    /// It stays when it is to end.
    NeverDone,
    /// Its deadline is always past.
    Spins,
    /// It begins where its predecessor ended.
    Shares,
    /// It takes what stands behind its handshake.
    TakesTail,
    /// It changes what it does not consume.
    SpoilsLent,
}

/// Messages end with `;`, and the first bytes are a greeting, `hi;`.
#[derive(Clone, Debug)]
struct Faulty {
    fault: Fault,
    greeted: Arc<AtomicBool>,
}

struct FaultyLayer {
    fault: Fault,
    greeted: Arc<AtomicBool>,
    steps: u8,
}

impl Faulty {
    fn stack(fault: Fault) -> Stack {
        Stack::new().with(Faulty { fault, greeted: Arc::default() })
    }
}

impl LayerSpec for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let greeted = match self.fault {
            Fault::Shares => Arc::clone(&self.greeted),
            _ => Arc::default(),
        };
        Ok(Box::new(FaultyLayer { fault: self.fault, greeted, steps: 0 }))
    }
}

impl FaultyLayer {
    fn message(&self, bytes: &[u8]) -> Option<usize> {
        match self.fault {
            Fault::PieceIsMessage => (!bytes.is_empty()).then_some(bytes.len()),
            _ => bytes.iter().position(|byte| *byte == b';').map(|at| at + 1),
        }
    }

    fn read(&self, io: &mut Io<'_>) {
        loop {
            let found = self.message(io.from_below.bytes());
            let len = io.from_below.bytes().len();
            let Some(count) = found else {
                match self.fault {
                    Fault::Forgets => io.from_below.consume(len),
                    Fault::SpoilsLent => io.from_below.bytes().iter_mut().for_each(|b| *b ^= 1),
                    Fault::HidesEnd if io.from_below.ended() => io.from_below.hold(),
                    _ => {}
                }
                return;
            };
            if !self.greeted.load(Relaxed) {
                self.greeted.store(true, Relaxed);
                io.ready(Info::None);
                io.from_below.consume(if self.fault == Fault::TakesTail { len } else { count });
                continue;
            }
            if self.fault != Fault::IgnoresPause && !io.to_above.may_push() {
                return;
            }
            let bytes = io.from_below.bytes();
            io.to_above.push(&bytes[..count]);
            io.from_below.consume(if self.fault == Fault::DropsRest { len } else { count });
        }
    }
}

impl Layer for FaultyLayer {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        self.steps = self.steps.wrapping_add(1);
        self.read(io);
        if !self.greeted.load(Relaxed) && io.from_below.ended() {
            return Err(Error::remote(ErrorKind::EofInHandshake, "no greeting"));
        }
        if self.fault == Fault::CountsSteps {
            io.to_below.send(&[self.steps]);
        }
        let mut free = self.fault == Fault::IgnoresRoom || io.to_below.room() > 0;
        while self.greeted.load(Relaxed) && !io.from_above.is_empty() && free {
            let sent = io.from_above.bytes().to_vec();
            let one = self.fault == Fault::LeavesWrites;
            io.from_above.consume(if one { 1 } else { sent.len() });
            io.to_below.send(if one { &sent[..1] } else { &sent });
            free = !one && (self.fault == Fault::IgnoresRoom || io.to_below.room() > 0);
        }
        Ok(match io.finishing() && self.fault != Fault::NeverDone {
            true => Status::Done(How::Closed),
            false => Status::Open,
        })
    }

    fn receive_only(&mut self, bytes: &mut [u8], to: &mut ToAbove<'_>) -> Option<Passed> {
        (self.fault == Fault::OtherShortWay).then(|| {
            to.push(bytes);
            Passed { used: bytes.len(), more: false }
        })
    }

    fn deadline(&self) -> Option<Instant> {
        (self.fault == Fault::Spins).then_some(Instant::ZERO)
    }
}

fn check(fault: Fault, side: Side) -> Result<Vec<Seen>, String> {
    let stack = Faulty::stack(fault);
    let writes: &[&[u8]] = &[b"one", b"two"];
    check_layer(&Case { stack: &stack, side, input: b"hi;ab;c;de", writes, tail: b"f;" })
}

#[test]
fn each_of_fourteen_faults_is_found_and_named() {
    let faults = [
        (Fault::PieceIsMessage, "differs"),
        (Fault::DropsRest, "differs"),
        (Fault::Forgets, "differs"),
        (Fault::IgnoresPause, "during a pause"),
        (Fault::IgnoresRoom, "to a full wire"),
        (Fault::LeavesWrites, "differs"),
        (Fault::CountsSteps, "differs"),
        (Fault::OtherShortWay, "differs"),
        (Fault::HidesEnd, "told to nobody"),
        (Fault::NeverDone, "never ends"),
        (Fault::Spins, "again and again"),
        (Fault::Shares, "differs"),
        (Fault::TakesTail, "differs"),
        (Fault::SpoilsLent, "differs"),
    ];
    for side in [Side::Client, Side::Server] {
        for (fault, word) in faults {
            let found = check(fault, side).expect_err(&format!("{fault:?} is not found"));
            assert!(found.contains(word), "{fault:?}: {found}");
        }
    }
}

#[test]
fn a_layer_without_a_fault_passes() {
    for side in [Side::Client, Side::Server] {
        let seen = check(Fault::None, side).unwrap();
        assert_eq!(seen.last(), Some(&Seen::Data(b"ab;c;".to_vec())));
    }
}
