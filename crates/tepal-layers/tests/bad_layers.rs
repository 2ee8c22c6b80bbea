//! Layers that lie about counts, and layers that panic: whatever they do, their chain ends orderly
//! or goes on.

use std::time::Duration;

use tepal_base::Instant;
use tepal_layers::check::{Bench, Shift};
use tepal_layers::{
    Error, ErrorKind, Info, Io, Layer, LayerSpec, Passed, Side, Site, Stack, Status, ToAbove,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bad {
    ConsumesAll,
    NeedsAll,
    UsesAll,
    PanicsIn(&'static str),
}

impl LayerSpec for Bad {
    fn name(&self) -> &'static str {
        "bad"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        self.panics("build");
        Ok(Box::new(*self))
    }
}

impl Bad {
    fn panics(self, place: &str) {
        assert_ne!(self, Bad::PanicsIn("any"), "{place}");
        if let Bad::PanicsIn(own) = self {
            assert_ne!(own, place, "on purpose");
        }
    }
}

impl Layer for Bad {
    fn name(&self) -> &'static str {
        "bad"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        if !io.from_below.bytes().is_empty() {
            self.panics("step");
        }
        match self {
            Bad::ConsumesAll => {
                io.to_above.pass(&mut io.from_below, 1);
                io.from_below.consume(usize::MAX);
                io.from_above.consume(usize::MAX);
            }
            Bad::NeedsAll => io.from_below.need(usize::MAX),
            _ => {
                io.to_above.pass(&mut io.from_below, usize::MAX);
                io.to_below.pass(&mut io.from_above, usize::MAX);
            }
        }
        Ok(Status::Open)
    }

    fn receive_only(&mut self, bytes: &mut [u8], to_above: &mut ToAbove<'_>) -> Option<Passed> {
        self.panics("receive_only");
        (*self == Bad::UsesAll).then(|| {
            to_above.push(bytes);
            Passed { used: usize::MAX, more: true }
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.panics("deadline");
        None
    }
}

fn bench(stack: &Stack) -> Bench {
    let mut bench = Bench::new(stack, Side::Client).unwrap();
    bench.settle();
    bench
}

#[test]
fn counts_beyond_all_bounds_mean_all_there_is() {
    for stack in [
        Stack::new().with(Bad::ConsumesAll),
        Stack::new().with(Shift(0)).with(Bad::ConsumesAll),
        Stack::new().with(Bad::ConsumesAll).with(Shift(0)),
    ] {
        let mut bench = bench(&stack);
        for _ in 0..2 {
            bench.receive(b"abc");
            bench.write(b"abc").unwrap();
        }
        assert_eq!((bench.data(), bench.sent()), (b"aa".to_vec(), Vec::new()), "{stack:?}");
    }
    let mut bench = bench(&Stack::new().with(Bad::UsesAll));
    bench.receive(b"abc");
    bench.receive(b"def");
    assert_eq!(bench.data(), b"abcdef");
}

#[test]
fn a_layer_that_needs_more_than_there_can_be_hears_of_the_end() {
    for stack in [
        Stack::new().with(Bad::NeedsAll),
        Stack::new().with(Shift(0)).with(Bad::NeedsAll),
        Stack::new().with(Shift(0)).with(Bad::NeedsAll).with(Shift(0)),
    ] {
        let mut bench = bench(&stack);
        bench.receive(&[0; 200_000]);
        bench.receive_eof();
        assert_eq!(bench.data(), b"", "{stack:?}");
        bench.pass_time(Duration::from_secs(3600));
        assert!(bench.saw(&tepal_layers::check::Seen::Eof), "{stack:?}");
    }
}

#[test]
fn a_panic_of_a_layer_is_its_error() {
    let built = Bench::new(&Stack::new().with(Bad::PanicsIn("build")), Side::Client);
    let Err(error) = built else { panic!("built") };
    assert_eq!((error.kind(), error.layer()), (ErrorKind::Other, "bad"));
    for place in ["step", "receive_only", "deadline"] {
        let bad = Bad::PanicsIn(place);
        for stack in [Stack::new().with(bad), Stack::new().with(Shift(0)).with(bad).with(Shift(0))]
        {
            if place == "receive_only" && stack.specs().len() > 1 {
                continue; // it is asked of a layer alone in its chain
            }
            let mut bench = bench(&stack);
            bench.receive(b"abc");
            let error = bench.failure().expect("it panicked").clone();
            assert_eq!((error.kind(), error.layer()), (ErrorKind::Other, "bad"));
            assert!(error.to_string().contains("on purpose"), "{error}");
            assert_eq!(bench.data(), b"");
            bench.receive(b"def");
            bench.receive_eof();
            assert_eq!(bench.data(), b"", "a layer that has failed is left alone");
            assert!(bench.write(b"ghi").is_err());
        }
    }
}
