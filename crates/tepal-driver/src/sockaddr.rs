//! [`Address`] to and from the kernel's `sockaddr`.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::addr::{SocketAddrArg, SocketAddrStorage};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

use crate::{Address, UnixAddress};

/// The kernel's form of an address.
///
/// # Errors
///
/// `InvalidInput` for a path that is empty, too long or has a zero byte, for an abstract name that
/// is too long or where there are none, and for raw bytes too short or too long for a `sockaddr`.
pub(crate) fn encode(address: &Address) -> io::Result<SocketAddrAny> {
    match address {
        Address::Ip(address) => Ok(SocketAddrAny::from(*address)),
        Address::Unix(address) => encode_unix(address),
        Address::Other(bytes) => encode_raw(bytes),
    }
}

/// An address as the kernel told it; `None` is how it tells the unnamed.
pub(crate) fn decode(address: Option<SocketAddrAny>) -> Address {
    let Some(address) = address else { return Address::Unix(UnixAddress::Unnamed) };
    let known = match address.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => {
            SocketAddr::try_from(address.clone()).ok().map(Address::Ip)
        }
        AddressFamily::UNIX => Some(Address::Unix(decode_unix(&address))),
        _ => None,
    };
    known.unwrap_or_else(|| Address::Other(raw_bytes(&address).into()))
}

fn encode_unix(address: &UnixAddress) -> io::Result<SocketAddrAny> {
    match address {
        UnixAddress::Unnamed => encode_nameless(&[]),
        UnixAddress::Path(path) => {
            let bytes = path.as_os_str().as_bytes();
            if bytes.is_empty() {
                return Err(invalid("a Unix socket's path must not be empty"));
            }
            if bytes.contains(&0) {
                return Err(invalid("a Unix socket's path must not contain a zero byte"));
            }
            SocketAddrUnix::new(bytes).map(SocketAddrAny::from).map_err(|_| {
                invalid(format!("a Unix socket's path of {} bytes is too long", bytes.len()))
            })
        }
        UnixAddress::Abstract(name) => encode_nameless(&[&[0], &**name].concat()),
    }
}

// Bytes before the path: a family of two bytes, or a length and a family of one byte each.
const HEADER: usize = 2;

// Linux gives the unnamed no path at all, and abstract names one that begins with a zero byte.
#[cfg(target_os = "linux")]
fn encode_nameless(path: &[u8]) -> io::Result<SocketAddrAny> {
    let family = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes();
    let most = size_of::<libc::sockaddr_un>() - HEADER;
    if path.len() > most {
        let len = path.len() - 1;
        return Err(invalid(format!("an abstract name of {len} bytes is too long")));
    }
    encode_raw(&[&family, path].concat())
}

#[cfg(not(target_os = "linux"))]
fn encode_nameless(_path: &[u8]) -> io::Result<SocketAddrAny> {
    Err(invalid("this system has Unix sockets with paths only"))
}

fn decode_unix(address: &SocketAddrAny) -> UnixAddress {
    let bytes = raw_bytes(address);
    match bytes.get(HEADER..).unwrap_or_default() {
        [] => UnixAddress::Unnamed,
        [0, name @ ..] if cfg!(target_os = "linux") => UnixAddress::Abstract(name.into()),
        // The kernel counts the closing zero byte, or more of them, or none if the path is full.
        path => match path.split(|byte| *byte == 0).next().unwrap_or_default() {
            [] => UnixAddress::Unnamed,
            path => UnixAddress::Path(PathBuf::from(OsStr::from_bytes(path))),
        },
    }
}

fn encode_raw(bytes: &[u8]) -> io::Result<SocketAddrAny> {
    if !(HEADER..=size_of::<SocketAddrStorage>()).contains(&bytes.len()) {
        return Err(invalid(format!("{} bytes are no socket address", bytes.len())));
    }
    let mut storage = MaybeUninit::<SocketAddrStorage>::zeroed();
    // SAFETY: the length was checked against the storage; both are plain bytes, and the zeroed
    // storage is fully initialised. What the bytes mean is checked by the kernel.
    Ok(unsafe {
        storage.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        SocketAddrAny::new(storage, bytes.len() as _)
    })
}

fn raw_bytes(address: &SocketAddrAny) -> Vec<u8> {
    // SAFETY: rustix keeps `addr_len` bytes at `as_ptr` initialised, as long as the value lives.
    unsafe {
        address.with_sockaddr(|data, len| {
            std::slice::from_raw_parts(data.cast::<u8>(), len as usize).to_vec()
        })
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, SocketAddrV6};

    fn round(address: Address) {
        let there = encode(&address).expect("encodes");
        assert_eq!(decode(Some(there)), address);
    }

    #[test]
    fn addresses_come_back_from_the_kernels_form_as_they_went_in() {
        round("1.2.3.4:5".parse::<SocketAddr>().expect("an address").into());
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        round(SocketAddr::from(SocketAddrV6::new(link_local, 80, 7, 3)).into());
        round(Address::unix("/tmp/a socket"));
        round(Address::unix("p".repeat(107)));
        round(Address::Other([16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0].into()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_and_unnamed_addresses_come_back() {
        round(Address::Unix(UnixAddress::Abstract(b"a\0b".as_slice().into())));
        round(Address::Unix(UnixAddress::Unnamed));
        assert_eq!(decode(None), Address::Unix(UnixAddress::Unnamed));
    }

    #[test]
    fn names_that_fit_no_sockaddr_are_invalid_input() {
        let wrong = [
            Address::unix(""),
            Address::unix("a\0b"),
            Address::unix("p".repeat(109)),
            Address::Unix(UnixAddress::Abstract(vec![b'a'; 108].into())),
            Address::Other([].into()),
            Address::Other([1].into()),
            Address::Other(vec![0; 129].into()),
        ];
        for address in wrong {
            let error = encode(&address).map(|_| ()).expect_err("must not encode");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address:?}: {error}");
        }
    }
}
