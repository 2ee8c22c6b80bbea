//! Objects in the middle of a chain, which are a protocol to what is below them and a transport to
//! what is above, on real sockets and on simulated ones.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use layered::{Call, Pair, everywhere};
use tepal::layers::{Error, Info, Io, Layer, Pauses, Site, Status};
use tepal::{LayerSpec, Stack, Transport};

/// Passes everything on, and notes what stops it: why those above want nothing, and whether there is
/// room below.
#[derive(Clone, Debug)]
struct Middle(Arc<Mutex<(Pauses, bool)>>);

impl Middle {
    fn new() -> Middle {
        Middle(Arc::new(Mutex::new((Pauses::NONE, true))))
    }

    fn above(&self) -> Pauses {
        self.0.lock().expect("one thread").0
    }

    fn has_room_below(&self) -> bool {
        self.0.lock().expect("one thread").1
    }
}

impl LayerSpec for Middle {
    fn name(&self) -> &'static str {
        "middle"
    }
    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Layer for Middle {
    fn name(&self) -> &'static str {
        "middle"
    }
    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        io.to_above.pass(&mut io.from_below, usize::MAX);
        io.to_below.pass(&mut io.from_above, usize::MAX);
        *self.0.lock().expect("one thread") = (io.to_above.pauses(), io.to_below.room() > 0);
        Ok(match io.finishing() && io.from_above.is_empty() {
            true => Status::Done(tepal::How::Closed),
            false => Status::Open,
        })
    }
}

const MUCH: usize = 32 << 20;

async fn until(transport: &Transport, what: &str, ready: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if ready() {
            return;
        }
        transport.event_loop().sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[test]
fn s33_s48_each_of_two_in_the_middle_tells_a_pause_on_its_left_from_one_on_its_right() {
    everywhere(|event_loop| {
        let (lower, upper) = (Middle::new(), Middle::new());
        let stack = Stack::new().with(lower.clone()).with(upper.clone());
        let received = Rc::new(Cell::new(0));
        let count = Rc::clone(&received);
        let up = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(data) = call {
                count.set(count.get() + data.len());
            }
            if !matches!(call, Call::Established) {
                return None;
            }
            let (lower, upper, received) = (lower.clone(), upper.clone(), Rc::clone(&received));
            let transport = transport.clone();
            transport.pause_reading();
            transport.write(b"speak");
            transport.event_loop().clone().spawn(async move {
                // A pause from above: the protocol's, which the lower one sees as its neighbour's.
                until(&transport, "the upper one hears of the pause", || {
                    upper.above().contains(Pauses::PROTOCOL)
                })
                .await;
                until(&transport, "the lower one is held up", || !lower.above().is_empty()).await;
                assert!(!lower.above().contains(Pauses::PROTOCOL), "{:?}", lower.above());
                assert!(upper.has_room_below() && lower.has_room_below());
                assert_eq!(received.get(), 0);
                transport.resume_reading();
                until(&transport, "all has come", || received.get() == MUCH).await;
                // One from below: the peer takes no more, and nobody above has asked for a pause.
                transport.write(&vec![1; MUCH]);
                until(&transport, "both are full", || {
                    !upper.has_room_below() && !lower.has_room_below()
                })
                .await;
                assert!(upper.above().is_empty() && lower.above().is_empty());
                transport.abort();
            });
            None
        };
        let down = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(_) = call {
                transport.pause_reading();
                transport.write(&vec![2; MUCH]);
            }
            if let Call::Out = call {
                // So that the reset of the other side is heard.
                let transport = transport.clone();
                let span = Duration::from_millis(500);
                transport
                    .event_loop()
                    .clone()
                    .call_later(span, move |_| transport.resume_reading());
            }
            None
        };
        Pair::connect(event_loop, (stack, up), (Stack::new(), down)).run(event_loop);
    });
}

/// Both members of a chain give way to each other: a stack of thirty is as good as one of two.
#[test]
fn s33_a_chain_of_any_length_carries_bytes_both_ways() {
    everywhere(|event_loop| {
        let stack = || (0..30).fold(Stack::new(), |stack, _| stack.with(Middle::new()));
        let up = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => drop(transport.write(&vec![3; 1 << 20])),
                Call::Eof => transport.close(),
                _ => {}
            }
            None
        };
        let mut left = 1 << 20;
        let down = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(data) = call {
                transport.write(data);
                left -= data.len();
                if left == 0 {
                    transport.close();
                }
            }
            None
        };
        let (client, server) =
            Pair::connect(event_loop, (stack(), up), (stack(), down)).run(event_loop);
        assert_eq!((client.bytes.len(), server.bytes.len()), (1 << 20, 1 << 20));
        assert!(client.bytes == server.bytes && client.events.contains(&"eof".to_owned()));
    });
}
