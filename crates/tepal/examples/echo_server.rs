//! Sends back what it receives. A client that does not read is not read from either.

mod common;

use std::process::ExitCode;

use tepal::{Crossing, EventLoop, Listen, Protocol, Transport, tls};

const USAGE: &str = "echo_server ADDRESS [--tls CERT KEY]

Echoes at ADDRESS, such as 127.0.0.1:7000; port 0 lets the kernel choose. With --tls over TLS,
with the certificate chain and the key in two PEM files.
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
        |arguments| {
            let address = arguments.address("ADDRESS")?;
            let files = match arguments.option().as_deref() {
                None => None,
                Some("--tls") => Some((arguments.text("CERT")?, arguments.text("KEY")?)),
                Some(option) => return Err(format!("there is no option {option}")),
            };
            Ok((address, files))
        },
        |(address, files)| {
            let event_loop = EventLoop::new()?;
            let mut listen = Listen::from(address);
            if let Some((certificate, key)) = files {
                listen = listen.layer(tls::server(certificate, key)?.build()?);
            }
            let server = event_loop.listen(|_| Echo, listen)?;
            common::announce(&server)?;
            common::serve(&event_loop, server)?;
            Ok(())
        },
    )
}
