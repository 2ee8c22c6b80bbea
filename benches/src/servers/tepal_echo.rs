//! Echo as a tepal user writes it: one protocol per connection.

use tepal::layers::Certificate;
use tepal::{Address, EventLoop, Listen, Protocol, Tls, Transport};

use super::certificate::{CHAIN, KEY, failure};
use crate::options::Failure;
use crate::program;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

pub(crate) fn serve(over_tls: bool) -> Result<(), Failure> {
    let event_loop = EventLoop::new()?;
    let mut listen = Listen::on("127.0.0.1:0");
    if over_tls {
        let own = Certificate::from_pem(CHAIN, KEY).map_err(failure)?;
        listen = listen.layer(Tls::builder().certificate(own).build().map_err(failure)?);
    }
    let server = event_loop.listen(|_: &Address| Echo, listen)?;
    let address = server.local_addresses().first().and_then(Address::as_ip);
    program::announce(address.ok_or_else(|| Failure::run("listens at no IP address"))?);
    event_loop.run_forever()?;
    Ok(())
}
