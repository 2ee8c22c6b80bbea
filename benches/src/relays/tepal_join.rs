//! `join` of tepal: each inbound connection is joined to one towards the target.

use std::net::SocketAddr;

use tepal::{Address, EventLoop, Protocol, Transport};

use crate::options::Failure;
use crate::program;

struct Near {
    target: SocketAddr,
}

struct Far {
    near: Transport,
}

impl Protocol for Near {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        transport.event_loop().connect(Far { near: transport.clone() }, self.target);
    }
}

impl Protocol for Far {
    fn connection_established(&mut self, transport: &Transport) {
        // An end before the join ends this connection too, as in the other relays.
        if self.near.join(transport).is_err() {
            transport.abort();
        }
    }
}

pub(crate) fn serve(target: SocketAddr) -> Result<(), Failure> {
    let event_loop = EventLoop::new()?;
    let server = event_loop.listen(move |_: &Address| Near { target }, "127.0.0.1:0")?;
    let address = server.local_addresses().first().and_then(Address::as_ip);
    program::announce(address.ok_or_else(|| Failure::run("listens at no IP address"))?);
    event_loop.run_forever()?;
    Ok(())
}
