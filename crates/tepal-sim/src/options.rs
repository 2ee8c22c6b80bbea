use std::mem::discriminant;
use std::net::IpAddr;

use tepal_driver::SocketOption;

use crate::errno::{
    EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENODEV, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO, Outcome,
};
use crate::socket::{Family, Options, SocketId};
use crate::state::State;

impl State {
    pub(crate) fn set_option(&mut self, id: SocketId, option: &SocketOption) -> Outcome<()> {
        let socket = self.socket(id);
        check(socket.family, socket.v6, option)?;
        let options = &mut socket.options;
        apply(options, option)?;
        if !matches!(option, SocketOption::JoinGroup { .. } | SocketOption::LeaveGroup { .. }) {
            options.set.retain(|other| discriminant(other) != discriminant(option));
            options.set.push(option.clone());
        }
        // More room may let a writer go on, here or at the peer.
        match option {
            SocketOption::SendBuffer(_) => self.edge(id),
            SocketOption::ReceiveBuffer(_) => {
                if let Some(peer) = self.stream(id).map(|stream| stream.peer) {
                    self.transmit(peer);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn check(family: Family, v6: bool, option: &SocketOption) -> Outcome<()> {
    match option {
        SocketOption::NoDelay(_) if family.is_unix() => Err(EOPNOTSUPP),
        SocketOption::NoDelay(_) if family == Family::Udp => Err(ENOPROTOOPT),
        SocketOption::OnlyV6(_) if family.is_unix() => Err(EOPNOTSUPP),
        SocketOption::OnlyV6(_) if !v6 => Err(ENOPROTOOPT),
        SocketOption::BindToDevice(name) if name.as_bytes() != b"lo" => Err(ENODEV),
        // Privileged, and the simulation is not root.
        SocketOption::Transparent(true) => Err(EPERM),
        SocketOption::JoinGroup { group, .. } | SocketOption::LeaveGroup { group, .. } => {
            match family {
                _ if family.is_unix() => Err(EOPNOTSUPP),
                Family::Tcp => Err(EPROTO),
                Family::Udp if group.is_multicast() && group.is_ipv6() <= v6 => Ok(()),
                _ => Err(EINVAL),
            }
        }
        SocketOption::MulticastLoop(_) | SocketOption::MulticastHops(_) if family.is_unix() => {
            Err(EOPNOTSUPP)
        }
        _ => Ok(()),
    }
}

fn apply(options: &mut Options, option: &SocketOption) -> Outcome<()> {
    let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX).max(1);
    match option {
        SocketOption::ReuseAddress(on) => options.reuse_address = *on,
        SocketOption::ReusePort(on) => options.reuse_port = *on,
        SocketOption::OnlyV6(on) => options.only_v6 = *on,
        SocketOption::Broadcast(on) => options.broadcast = *on,
        SocketOption::Linger(time) => options.linger_zero = time.is_some_and(|t| t.is_zero()),
        SocketOption::ReceiveBuffer(bytes) => options.receive_buffer = size(*bytes),
        SocketOption::SendBuffer(bytes) => options.send_buffer = size(*bytes),
        SocketOption::MulticastLoop(on) => options.group_loop = *on,
        SocketOption::JoinGroup { group, interface } => {
            check_interface(*interface)?;
            let is_new = options.groups.insert(canonical_group(*group));
            return if is_new { Ok(()) } else { Err(EADDRINUSE) };
        }
        SocketOption::LeaveGroup { group, .. } => {
            let was_in = options.groups.remove(&canonical_group(*group));
            return if was_in { Ok(()) } else { Err(EADDRNOTAVAIL) };
        }
        // Kept, and without meaning on this network.
        _ => {}
    }
    Ok(())
}

fn canonical_group(group: IpAddr) -> IpAddr {
    group.to_canonical()
}

/// The kernel's choice, and the loopback interface.
fn check_interface(index: u32) -> Outcome<()> {
    if index <= 1 { Ok(()) } else { Err(ENODEV) }
}
