//! A TCP relay. The loop passes the bytes itself and reads each side only as fast as the other
//! takes them; the end of one direction is passed on without ending the other.

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::ExitCode;

use tepal::{Closed, EventLoop, Protocol, Transport};

const USAGE: &str = "relay LISTEN TARGET

Accepts connections at LISTEN and passes the bytes of each to and from a connection of its
own to TARGET. Both are addresses such as 127.0.0.1:7000; port 0 in LISTEN lets the kernel
choose. Prints \"listening on ADDRESS\", and a line at the end of each connection. SIGINT or
SIGTERM drains and ends it.";

/// The accepted side, until it is joined.
struct Front {
    target: SocketAddr,
    back: RefCell<Option<Transport>>,
}

/// The side towards the target.
struct Back {
    front: Transport,
}

impl Protocol for Front {
    fn connection_established(&mut self, front: &Transport) {
        // What the client sends meanwhile waits in its socket.
        front.pause_reading();
        let back = Back { front: front.clone() };
        self.back.replace(Some(front.event_loop().connect(back, self.target)));
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        // Once they are joined, the other side has ended already, and this does nothing.
        self.back.take().iter().for_each(Transport::abort);
    }
}

impl Protocol for Back {
    fn connection_established(&mut self, back: &Transport) {
        let Ok(joined) = self.front.join(back) else {
            // The client has gone while we connected.
            return back.abort();
        };
        back.event_loop().spawn(async move {
            match joined.await {
                Ok((there, back)) => println!("relayed {there} bytes there, {back} back"),
                Err(error) => println!("relayed until an error: {error}"),
            }
        });
    }

    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        println!("{closed}");
        self.front.abort();
    }
}

fn main() -> ExitCode {
    common::main(
        USAGE,
        |arguments| Ok((arguments.address("LISTEN")?, arguments.address("TARGET")?)),
        |(listen, target)| {
            let event_loop = EventLoop::new()?;
            let factory = move |_: &tepal::Address| Front { target, back: RefCell::default() };
            let server = event_loop.listen(factory, listen)?;
            common::announce(&server)?;
            common::serve(&event_loop, server)?;
            Ok(())
        },
    )
}
