//! Layers of a user's that panic: each costs its connection and nothing else.

mod common;
#[path = "common/layered.rs"]
mod layered;

use common::{address, run};
use layered::{Call, Script, echo, everywhere};
use tepal::layers::{Error, ErrorKind, Info, Io, Layer, Site, Status};
use tepal::{CloseKind, LayerSpec, Listen, Stack, Target, Transport};

/// Passes everything on, and panics where it is told to.
#[derive(Clone, Copy, Debug)]
struct Panics(&'static str);

impl Panics {
    fn at(self, place: &str) {
        assert_ne!(self.0, place, "on purpose");
    }
}

impl LayerSpec for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        self.at("build");
        Ok(Box::new(*self))
    }
}

impl Layer for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        self.at("handshake");
        io.ready(Info::None);
        if !io.from_above.is_empty() {
            self.at("write");
        }
        if !io.from_below.bytes().is_empty() {
            self.at("read");
        }
        io.to_below.pass(&mut io.from_above, usize::MAX);
        io.to_above.pass(&mut io.from_below, usize::MAX);
        Ok(Status::Open)
    }
}

#[test]
fn a_panic_of_a_layer_costs_its_connection_and_no_other() {
    everywhere(|event_loop| {
        let server = event_loop
            .listen(|_: &tepal::Address| Script::new(echo).0, Listen::on("127.0.0.1:0"))
            .expect("listens");
        for place in ["build", "handshake", "write", "read"] {
            let (bystander, other) = Script::new(|transport: &Transport, call: &Call<'_>| {
                if let Call::Data(_) = call {
                    transport.close();
                    transport.event_loop().stop();
                }
                None
            });
            let bystander = event_loop.connect(bystander, Target::address(address(&server)));
            let waiting = bystander.clone();
            let (script, log) = Script::new(move |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Made => drop(transport.write(b"question")),
                    // The loop goes on, and so does the other connection.
                    Call::Lost(_) => drop(waiting.write(b"are you there?")),
                    _ => {}
                }
                None
            });
            let stack = Stack::new().with(Panics(place));
            event_loop.connect(script, Target::address(address(&server)).stack(stack));
            run(event_loop);
            assert_eq!(other.take().bytes, b"are you there?", "{place}");
            let closed = log.take().closed.expect("ended");
            let kind = match place {
                "build" | "handshake" => CloseKind::HandshakeFailed,
                _ => CloseKind::LayerFailed,
            };
            assert_eq!(closed.kind, kind, "{place}");
            let error = closed.layer_error.expect("the layer's");
            assert_eq!((error.kind(), error.layer()), (ErrorKind::Other, "panics"));
            assert!(error.to_string().contains("on purpose"), "{error}");
        }
        server.close();
    });
}
