//! The least that an echo server on epoll can do: one shared wait, one `recv` and one `send` per
//! message, one `epoll_ctl` per connection. No timers, no callbacks, no types.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, getsockname,
    listen, recv, send, socket_with, sockopt,
};

use super::READ_SIZE;
use crate::options::Failure;
use crate::program;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Level,
    Edge,
}

struct Connection {
    socket: OwnedFd,
    // What the kernel did not take. While there is some, nothing is read.
    unsent: Vec<u8>,
}

const LISTENER: u64 = u64::MAX;

pub(crate) fn serve(trigger: Trigger) -> Result<(), Failure> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    listen(&listener, 1024)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    program::announce(
        SocketAddr::try_from(getsockname(&listener)?)
            .map_err(|_| Failure::run("an address of another family"))?,
    );

    // Level-triggered, output is waited for only while something is unsent. Edge-triggered, both are
    // registered once and for all.
    let interest = match trigger {
        Trigger::Level => EventFlags::IN,
        Trigger::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::ET | EventFlags::RDHUP,
    };
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                let socket = match accept_with(&listener, flags) {
                    Ok(socket) => socket,
                    Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                sockopt::set_tcp_nodelay(&socket, true)?;
                // No slot is used twice, so no late event can meet another's connection.
                let data = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &socket, data, interest)?;
                connections.push(Some(Connection { socket, unsent: Vec::new() }));
                continue;
            }
            // An index of ours, which the kernel gives back.
            let slot = &mut connections[event.data.u64() as usize];
            let Some(connection) = slot else { continue };
            let before = connection.unsent.is_empty();
            let open = match trigger {
                Trigger::Level => step(connection, &mut buffer).is_some(),
                Trigger::Edge => loop {
                    match step(connection, &mut buffer) {
                        None => break false,
                        // A read that filled the buffer may have left something.
                        Some(count) if count == READ_SIZE && connection.unsent.is_empty() => {}
                        Some(_) => break true,
                    }
                },
            };
            let after = connection.unsent.is_empty();
            if !open {
                *slot = None;
            } else if trigger == Trigger::Level && before != after {
                let wanted = if after { EventFlags::IN } else { EventFlags::OUT };
                epoll::modify(&epoll, &connection.socket, event.data, wanted)?;
            }
        }
    }
}

/// Sends what is unsent, else reads once and sends that. The count read; `None` at the end of the
/// connection.
#[inline]
fn step(connection: &mut Connection, buffer: &mut [u8]) -> Option<usize> {
    if !connection.unsent.is_empty() {
        let sent = attempt(send(&connection.socket, &connection.unsent, SendFlags::NOSIGNAL))?;
        connection.unsent.drain(..sent);
        // Input that came meanwhile made its edge before: read now, not at the next event.
        if !connection.unsent.is_empty() {
            return Some(0);
        }
    }
    let count = match recv(&connection.socket, &mut *buffer, RecvFlags::empty()) {
        Ok((0, _)) => return None,
        Ok((count, _)) => count,
        Err(Errno::AGAIN | Errno::INTR) => return Some(0),
        Err(_) => return None,
    };
    let bytes = buffer.get(..count)?;
    let sent = attempt(send(&connection.socket, bytes, SendFlags::NOSIGNAL))?;
    if sent < count {
        connection.unsent.extend_from_slice(bytes.get(sent..)?);
    }
    Some(count)
}

fn attempt(sent: Result<usize, Errno>) -> Option<usize> {
    match sent {
        Ok(count) => Some(count),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
