//! Where to listen.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use tepal::names::{AddrInfoQuery, Family, Hints, SocketType};
use tepal::{Address, EventLoop, Server};

use crate::chain::{PassedOn, Place, Wire};
use crate::exit::{Exit, Failure};
use crate::service::Station;

/// The addresses that a wire means, and whether they are a name's.
pub(crate) struct Places {
    pub(crate) addresses: Vec<Address>,
    // One of them will do.
    named: bool,
}

/// Finds the addresses of a wire.
pub(crate) fn find(event_loop: &EventLoop, wire: &Wire) -> Result<Places, Failure> {
    let (host, port) = match &wire.place {
        Place::Unix(path) => {
            return Ok(Places { addresses: vec![Address::unix(path)], named: false });
        }
        Place::Tcp(host, port) | Place::Udp(host, port) => (host, *port),
    };
    if host == "*" {
        let v4 = Address::Ip((Ipv4Addr::UNSPECIFIED, port).into());
        // It takes IPv4 too. Where there is no IPv6, the other one is left.
        let v6 = Address::Ip((Ipv6Addr::UNSPECIFIED, port).into());
        return Ok(match wire.family {
            Family::V4 => Places { addresses: vec![v4], named: false },
            Family::V6 => Places { addresses: vec![v6], named: false },
            Family::Unspecified => {
                let addresses = vec![if has_ipv6(event_loop) { v6 } else { v4 }];
                Places { addresses, named: false }
            }
        });
    }
    let service = port.to_string();
    let hints = Hints { socket_type: SocketType::STREAM, family: wire.family, ..Hints::default() };
    let query = AddrInfoQuery {
        host: Some(host),
        service: Some(&service),
        hints,
        timeout: wire.timeouts.dns,
    };
    let found = event_loop.run_until_complete(event_loop.getaddrinfo(&query))?;
    let infos = found.map_err(|error| {
        Failure::new(Exit::Resolve, format_args!("cannot find {host} to listen at: {error}"))
    })?;
    let addresses: Vec<_> = infos.iter().map(|info| Address::Ip(info.address)).collect();
    Ok(Places { named: addresses.len() > 1, addresses })
}

fn has_ipv6(event_loop: &EventLoop) -> bool {
    struct Quiet;
    impl tepal::Protocol for Quiet {}
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let server = event_loop.listen(|_: &Address| Quiet, any);
    server.map(|server| server.close()).is_ok()
}

/// Listens at them. Of a name's addresses those that this machine does not have are left out.
pub(super) fn open(
    station: &Rc<Station>,
    places: &Places,
    most: Option<u32>,
) -> Result<Vec<Server>, Failure> {
    let mut servers = Vec::new();
    let mut failed = None;
    for address in &places.addresses {
        match open_one(station, address, most) {
            Ok(server) => servers.push(server),
            Err(error) if places.named && error.kind() == io::ErrorKind::AddrNotAvailable => {
                failed = Some(error);
            }
            Err(error) => {
                servers.iter().for_each(Server::close);
                return Err(failure(&error));
            }
        }
    }
    match failed.filter(|_| servers.is_empty()) {
        Some(error) => Err(failure(&error)),
        None => Ok(servers),
    }
}

pub(crate) fn failure(error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; does another server run there?",
        io::ErrorKind::PermissionDenied => "; ports below 1024 may need more rights",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this machine",
        _ => "",
    };
    Failure::new(Exit::Listen, format_args!("{error}{hint}"))
}

fn open_one(station: &Rc<Station>, address: &Address, most: Option<u32>) -> io::Result<Server> {
    let wire = &station.front.wire;
    let mut listen =
        tepal::Listen::on(address.clone()).stack(station.front.stack(PassedOn::Nobodys));
    listen = wire.backlog.into_iter().fold(listen, tepal::Listen::backlog);
    listen = listen.reuse_port(wire.reuse_port);
    listen = wire.timeouts.handshake.into_iter().fold(listen, tepal::Listen::handshaking);
    let most = most.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    listen = most.into_iter().fold(listen, tepal::Listen::max_connections);
    let (accepting, lp) = (Rc::clone(station), station.lp.clone());
    let server = lp.listen(move |peer: &Address| accepting.accept(peer), listen)?;
    if let (Place::Unix(path), Some(mode)) = (&wire.place, wire.mode) {
        set_permissions(path, Permissions::from_mode(mode)).inspect_err(|_| server.close())?;
    }
    Ok(server)
}
