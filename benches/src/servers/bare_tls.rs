//! The least that an echo server over TLS can do with rustls on epoll: one shared wait, one `recv`
//! and one `send` per message.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, getsockname,
    listen, recv, send, socket_with, sockopt,
};
use rustls::{ServerConfig, ServerConnection};

use super::{READ_SIZE, certificate};
use crate::options::Failure;
use crate::program;

struct Connection {
    socket: OwnedFd,
    tls: ServerConnection,
    // What the kernel did not take. While there is some, nothing is read.
    unsent: Vec<u8>,
}

const LISTENER: u64 = u64::MAX;

pub(crate) fn serve() -> Result<(), Failure> {
    let config = certificate::server_config()?;
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
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let (mut buffer, mut plain) = (vec![0; READ_SIZE], vec![0; READ_SIZE]);
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                while let Ok(socket) = accept_with(&listener, flags) {
                    let index = free.pop().unwrap_or(connections.len());
                    let connection = open(socket, &config)?;
                    epoll::add(
                        &epoll,
                        &connection.socket,
                        EventData::new_u64(index as u64),
                        EventFlags::IN,
                    )?;
                    match connections.get_mut(index) {
                        Some(place) => *place = Some(connection),
                        None => connections.push(Some(connection)),
                    }
                }
                continue;
            }
            let Some(slot) = connections.get_mut(data as usize) else { continue };
            let Some(connection) = slot else { continue };
            let before = connection.unsent.is_empty();
            if step(connection, &mut buffer, &mut plain).is_none() {
                *slot = None;
                free.push(data as usize);
                continue;
            }
            let after = connection.unsent.is_empty();
            if before != after {
                let wanted = if after { EventFlags::IN } else { EventFlags::OUT };
                epoll::modify(&epoll, &connection.socket, event.data, wanted)?;
            }
        }
    }
}

fn open(socket: OwnedFd, config: &Arc<ServerConfig>) -> Result<Connection, Failure> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    let tls = ServerConnection::new(Arc::clone(config)).map_err(certificate::failure)?;
    Ok(Connection { socket, tls, unsent: Vec::new() })
}

/// Sends what is unsent, else reads once and sends that. `None` at the end of the connection.
fn step(connection: &mut Connection, buffer: &mut [u8], plain: &mut [u8]) -> Option<()> {
    let Connection { socket, tls, unsent } = connection;
    if unsent.is_empty() {
        let count = match recv(&*socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return None,
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Some(()),
            Err(_) => return None,
        };
        let mut rest = buffer.get(..count)?;
        while !rest.is_empty() {
            tls.read_tls(&mut rest).ok()?;
            tls.process_new_packets().ok()?;
            while let Ok(count @ 1..) = tls.reader().read(plain) {
                tls.writer().write_all(plain.get(..count)?).ok()?;
            }
        }
        while tls.wants_write() {
            tls.write_tls(unsent).ok()?;
        }
    }
    if !unsent.is_empty() {
        let sent = match send(&*socket, unsent, SendFlags::NOSIGNAL) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return None,
        };
        if sent == unsent.len() {
            unsent.clear();
        } else {
            unsent.drain(..sent);
        }
    }
    Some(())
}
