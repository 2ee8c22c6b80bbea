//! What this machine is called, and where it is attached.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use crate::NetworkInterface;

/// The interfaces that have an index, by index.
pub(super) fn interfaces() -> io::Result<Vec<NetworkInterface>> {
    let mut found = BTreeMap::new();
    let list = List::read()?;
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: getifaddrs made this entry; it lives as long as `list`, and nobody writes to it.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        // SAFETY: the kernel's names end with a zero byte and live as long as `list`.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: the name ends with a zero byte, and the call keeps no pointer to it.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            // An alias of the old kind, or gone meanwhile.
            continue;
        }
        let interface = found.entry(index).or_insert_with(|| NetworkInterface {
            index,
            name: name.to_string_lossy().into_owned(),
            addresses: Vec::new(),
        });
        interface.addresses.extend(address_of(entry.ifa_addr));
    }
    Ok(found.into_values().collect())
}

// The list of getifaddrs(3), freed in the end.
struct List(*mut libc::ifaddrs);

impl List {
    fn read() -> io::Result<List> {
        let mut list = ptr::null_mut();
        // SAFETY: `list` is a place for one pointer, which the call fills when it succeeds.
        match unsafe { libc::getifaddrs(&mut list) } {
            0 => Ok(List(list)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list came from getifaddrs and is freed once; no reference to it is left.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, so it is a sockaddr that getifaddrs made.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that it is this structure; it may lie at any alignment.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is this structure; it may lie at any alignment.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}
