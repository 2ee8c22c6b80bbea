//! A chat of lines. The transports keep what is not a whole line yet; the server buffers nothing.

mod common;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use tepal::{Closed, EventLoop, Protocol, Transport};

const USAGE: &str = "chat ADDRESS

Serves a chat at ADDRESS, such as 127.0.0.1:7000; port 0 lets the kernel choose.
Prints \"listening on ADDRESS\". The first line that a client sends is its name; each further
line goes to all others. Try it with `nc 127.0.0.1 7000`. SIGINT or SIGTERM ends it.";

/// The longest line, its end included. Longer ones end the connection.
const LINE_LIMIT: usize = 4096;
/// A member that has this much left to read is too slow, and is dropped.
const BEHIND_LIMIT: usize = 1 << 20;

/// Who is in the room: by number, because names may be taken twice.
#[derive(Default)]
struct Room {
    members: Vec<(u64, Transport)>,
    next: u64,
}

struct Member {
    id: u64,
    name: Option<String>,
    room: Rc<RefCell<Room>>,
}

impl Room {
    fn tell_others(&self, id: u64, line: &str) {
        for (_, transport) in self.members.iter().filter(|(member, _)| *member != id) {
            transport.write(line.as_bytes());
            if transport.write_buffer_size() > BEHIND_LIMIT {
                transport.abort();
            }
        }
    }
}

impl Member {
    fn line(&mut self, transport: &Transport, line: &str) {
        let mut room = self.room.borrow_mut();
        match &self.name {
            Some(name) => room.tell_others(self.id, &format!("{name}: {line}\n")),
            None if line.is_empty() => {
                transport.write(b"your name?\n");
            }
            None => {
                transport
                    .write(format!("welcome, {line}; {} here\n", room.members.len()).as_bytes());
                room.tell_others(self.id, &format!("* {line} joined\n"));
                room.members.push((self.id, transport.clone()));
                self.name = Some(line.to_owned());
            }
        }
    }
}

impl Protocol for Member {
    fn connection_made(&mut self, transport: &Transport) {
        transport.set_read_limit(LINE_LIMIT);
        transport.write(b"your name?\n");
    }

    // One line per call; the transport calls again at once while there is more.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        let line = String::from_utf8_lossy(&data[..end]);
        self.line(transport, line.trim());
        end + 1
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        let mut room = self.room.borrow_mut();
        room.members.retain(|(member, _)| *member != self.id);
        if let Some(name) = &self.name {
            room.tell_others(self.id, &format!("* {name} left\n"));
        }
    }
}

fn main() -> ExitCode {
    common::main(
        USAGE,
        |arguments| arguments.address("ADDRESS"),
        |address| {
            let event_loop = EventLoop::new()?;
            let room = Rc::new(RefCell::new(Room::default()));
            let factory = move |_: &tepal::Address| {
                room.borrow_mut().next += 1;
                let id = room.borrow().next;
                Member { id, name: None, room: Rc::clone(&room) }
            };
            let server = event_loop.listen(factory, address)?;
            common::announce(&server)?;
            common::serve(&event_loop, server)?;
            Ok(())
        },
    )
}
