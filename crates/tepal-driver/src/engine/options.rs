//! Socket options.

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, Ipv4Addr, sockopt};

use crate::SocketOption;

pub(super) fn set(socket: BorrowedFd<'_>, option: &SocketOption) -> io::Result<()> {
    match option {
        SocketOption::ReuseAddress(on) => sockopt::set_socket_reuseaddr(socket, *on)?,
        SocketOption::ReusePort(on) => sockopt::set_socket_reuseport(socket, *on)?,
        SocketOption::NoDelay(on) => sockopt::set_tcp_nodelay(socket, *on)?,
        SocketOption::KeepAlive(on) => sockopt::set_socket_keepalive(socket, *on)?,
        SocketOption::OnlyV6(on) => sockopt::set_ipv6_v6only(socket, *on)?,
        SocketOption::Broadcast(on) => sockopt::set_socket_broadcast(socket, *on)?,
        SocketOption::Linger(span) => sockopt::set_socket_linger(socket, *span)?,
        SocketOption::ReceiveBuffer(len) => {
            sockopt::set_socket_recv_buffer_size(socket, *len as usize)?
        }
        SocketOption::SendBuffer(len) => {
            sockopt::set_socket_send_buffer_size(socket, *len as usize)?
        }
        SocketOption::BindToDevice(name) => bind_to_device(socket, name)?,
        SocketOption::Transparent(on) => set_transparent(socket, *on)?,
        SocketOption::JoinGroup { group: IpAddr::V4(group), interface } => {
            sockopt::set_ip_add_membership_with_ifindex(
                socket,
                group,
                &Ipv4Addr::UNSPECIFIED,
                *interface,
            )?
        }
        SocketOption::JoinGroup { group: IpAddr::V6(group), interface } => {
            sockopt::set_ipv6_add_membership(socket, group, *interface)?
        }
        SocketOption::LeaveGroup { group: IpAddr::V4(group), interface } => {
            sockopt::set_ip_drop_membership_with_ifindex(
                socket,
                group,
                &Ipv4Addr::UNSPECIFIED,
                *interface,
            )?
        }
        SocketOption::LeaveGroup { group: IpAddr::V6(group), interface } => {
            sockopt::set_ipv6_drop_membership(socket, group, *interface)?
        }
        SocketOption::MulticastLoop(on) => match is_v6(socket)? {
            true => sockopt::set_ipv6_multicast_loop(socket, *on)?,
            false => sockopt::set_ip_multicast_loop(socket, *on)?,
        },
        SocketOption::MulticastHops(hops) => match is_v6(socket)? {
            true => sockopt::set_ipv6_multicast_hops(socket, u32::from(*hops))?,
            false => sockopt::set_ip_multicast_ttl(socket, u32::from(*hops))?,
        },
    }
    Ok(())
}

fn is_v6(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::net::getsockname(socket)?.address_family() == AddressFamily::INET6)
}

#[cfg(target_os = "linux")]
fn bind_to_device(socket: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    set_raw(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.to_bytes_with_nul())
}

#[cfg(not(target_os = "linux"))]
fn bind_to_device(_socket: BorrowedFd<'_>, _name: &CStr) -> io::Result<()> {
    Err(super::streams::unsupported("binding a socket to a device is Linux's"))
}

#[cfg(target_os = "linux")]
fn set_transparent(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let on = libc::c_int::from(on).to_ne_bytes();
    match is_v6(socket)? {
        true => set_raw(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, &on),
        false => set_raw(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT, &on),
    }
}

#[cfg(not(target_os = "linux"))]
fn set_transparent(_socket: BorrowedFd<'_>, _on: bool) -> io::Result<()> {
    Err(super::streams::unsupported("transparent sockets are Linux's"))
}

#[cfg(target_os = "linux")]
fn set_raw(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: `value` is readable for its length while the call lasts; the kernel copies it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
