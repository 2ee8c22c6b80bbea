//! Sends back what it receives. A client that does not read is not read from either.

mod common;

use std::process::ExitCode;

use tepal::{Crossing, EventLoop, Protocol, Transport};

const USAGE: &str = "echo_server ADDRESS

Echoes at ADDRESS, such as 127.0.0.1:7000; port 0 lets the kernel choose.
Prints \"listening on ADDRESS\". SIGINT or SIGTERM drains the connections and ends it.";

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if transport.write(data) == Crossing::High {
            transport.pause_reading();
        }
        data.len()
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}

fn main() -> ExitCode {
    common::main(
        USAGE,
        |arguments| arguments.address("ADDRESS"),
        |address| {
            let event_loop = EventLoop::new()?;
            let server = event_loop.listen(|_| Echo, address)?;
            common::announce(&server)?;
            common::serve(&event_loop, server)?;
            Ok(())
        },
    )
}
