//! Echo as a tepal user writes it: one protocol per connection.

use tepal::{Address, EventLoop, Protocol, Transport};

use crate::options::Failure;
use crate::program;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

pub(crate) fn serve() -> Result<(), Failure> {
    let event_loop = EventLoop::new()?;
    let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0")?;
    let address = server.local_addresses().first().and_then(Address::as_ip);
    program::announce(address.ok_or_else(|| Failure::run("listens at no IP address"))?);
    event_loop.run_forever()?;
    Ok(())
}
