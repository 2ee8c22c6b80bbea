//! The program of the README.

use tepal::{EventLoop, Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn main() -> std::io::Result<()> {
    let event_loop = EventLoop::new()?;
    let _server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:7777")?;
    event_loop.run_forever()
}
