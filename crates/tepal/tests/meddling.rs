//! A layer of the user's that meddles with its connection while the handshakes of a race run: in
//! its spec, and in each of its steps.

mod common;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use reach::{echo_server, run_to_end, silent_server, simulated};
use story::Story;
use tepal::layers::{Error, Info, Io, Layer, Site, Status};
use tepal::{Addresses, Handshakes, How, LayerSpec, Target, Timeouts, Transport, Unsent};

/// Where it meddles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Build,
    FirstStep,
    LaterStep,
}

thread_local! {
    static TRANSPORT: RefCell<Option<Transport>> = const { RefCell::new(None) };
    static ACT: Cell<Option<(Place, &'static str)>> = const { Cell::new(None) };
}

/// Does what the case says, once.
fn meddle(here: Place) {
    let Some((place, what)) = ACT.get() else { return };
    if place != here {
        return;
    }
    ACT.set(None);
    let transport = TRANSPORT.with_borrow(Clone::clone).expect("it began");
    match what {
        "close" => transport.close(),
        "abort" => transport.abort(),
        "reconnect" => assert!(transport.reconnect(None)),
        "reconnect later" => {
            let again = transport.reconnect_with(
                Some(Duration::from_secs(3)),
                tepal::Restart::Connect,
                Unsent::Keep,
            );
            assert!(again);
        }
        "write" => drop(transport.write(b"more")),
        "pause" => transport.pause_reading(),
        "stop" => transport.event_loop().stop(),
        other => panic!("no such act: {other}"),
    }
}

#[derive(Debug)]
struct Meddler;

impl LayerSpec for Meddler {
    fn name(&self) -> &'static str {
        "meddler"
    }
    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        meddle(Place::Build);
        Ok(Box::new(Greeting { steps: 0, ready: false }))
    }
}

/// Is ready when its greeting has come back.
struct Greeting {
    steps: usize,
    ready: bool,
}

impl Layer for Greeting {
    fn name(&self) -> &'static str {
        "meddler"
    }
    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        self.steps += 1;
        if self.steps == 1 {
            io.to_below.send(b"greeting");
            meddle(Place::FirstStep);
        } else {
            meddle(Place::LaterStep);
        }
        if !self.ready && io.from_below.bytes().len() >= 8 {
            io.from_below.consume(8);
            io.ready(Info::None);
            self.ready = true;
        }
        if self.ready {
            io.to_above.pass(&mut io.from_below, usize::MAX);
            io.to_below.pass(&mut io.from_above, usize::MAX);
        }
        let done = io.finishing() && io.from_above.is_empty();
        Ok(if done { Status::Done(How::Closed) } else { Status::Open })
    }
}

#[test]
fn whatever_a_layer_does_during_a_race_of_handshakes_it_ends_once_and_leaves_nothing() {
    let acts = ["close", "abort", "reconnect", "reconnect later", "write", "pause", "stop"];
    for place in [Place::Build, Place::FirstStep, Place::LaterStep] {
        for what in acts {
            let (kernel, event_loop) = simulated();
            let good = echo_server(&event_loop);
            let silent = silent_server(&event_loop);
            ACT.set(Some((place, what)));
            let story = Story::new()
                .on("made", |transport| {
                    TRANSPORT.set(Some(transport.clone()));
                    transport.write(b"early");
                })
                .on("established", |transport| {
                    transport.resume_reading();
                })
                .on("data", |transport| transport.close());
            let second = Some(Duration::from_secs(1));
            let timeouts = Timeouts { handshake: second, closing: second, ..Timeouts::default() };
            let target = Target::any_of([silent, good])
                .layer(Meddler)
                .addresses(Addresses::Race)
                .handshakes(Handshakes::Race)
                .timeouts(timeouts);
            let transport = event_loop.connect(story.clone(), target);
            if what == "stop" {
                event_loop.run_forever().expect("runs");
            }
            run_to_end(&event_loop, &transport);
            let events = story.events();
            let what = format!("{what} in {place:?}: {events:?}");
            assert_eq!(ACT.take(), None, "{what}: it meddled");
            assert_eq!((story.count("made"), story.count("lost")), (1, 1), "{what}");
            let ends = what.starts_with("close") || what.starts_with("abort");
            assert_eq!(story.count("established"), usize::from(!ends), "{what}");
            TRANSPORT.set(None);
            drop((transport, story));
            drop(event_loop);
            let ledger = kernel.ledger();
            assert_eq!((ledger.open_descriptors, ledger.leaked_descriptors), (0, 0), "{what}");
        }
    }
}
