//! The C library's resolver: blocking calls, for threads that a caller brings.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use rustix::net::addr::SocketAddrArg;

use crate::Domain;

/// A question of the C library's getaddrinfo.
#[derive(Clone, Debug, Default)]
pub struct SystemQuery {
    /// A name or a literal.
    pub host: Option<String>,
    /// A service's name or a port.
    pub service: Option<String>,
    /// The family, or any.
    pub family: Option<Domain>,
    /// `SOCK_STREAM` and so on; 0: any.
    pub socket_type: i32,
    /// The protocol's number; 0: any.
    pub protocol: i32,
    /// `AI_` flags, by the system's numbers.
    pub flags: i32,
}

/// One entry of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemAddrInfo {
    /// The socket type.
    pub socket_type: i32,
    /// The protocol's number.
    pub protocol: i32,
    /// The canonical name, on the first entry if it was asked for.
    pub canonical_name: Option<String>,
    /// The address.
    pub address: SocketAddr,
}

/// Why the C library gave no answer.
#[derive(Debug)]
pub struct SystemNamesError {
    /// Its `EAI_` code.
    pub code: i32,
    /// The kernel's error, where the code is `EAI_SYSTEM`.
    pub error: Option<io::Error>,
}

/// Asks the C library for the addresses of a host. **Blocks**, for as long as it likes; any thread.
///
/// # Errors
///
/// The C library's code. A text with a zero byte is `EAI_NONAME`.
pub fn system_getaddrinfo(query: &SystemQuery) -> Result<Vec<SystemAddrInfo>, SystemNamesError> {
    let text = |text: &Option<String>| match text.as_deref().map(CString::new) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(SystemNamesError { code: libc::EAI_NONAME, error: None }),
    };
    let (host, service) = (text(&query.host)?, text(&query.service)?);
    // SAFETY: addrinfo is plain data, for which all zeros mean "nothing in particular".
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_flags = query.flags;
    hints.ai_socktype = query.socket_type;
    hints.ai_protocol = query.protocol;
    hints.ai_family = match query.family {
        None => libc::AF_UNSPEC,
        Some(Domain::Inet) => libc::AF_INET,
        Some(Domain::Inet6) => libc::AF_INET6,
        Some(_) => return Err(SystemNamesError { code: libc::EAI_FAMILY, error: None }),
    };
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    let mut list = List(ptr::null_mut());
    // SAFETY: the texts end with a zero byte and outlive the call, as do `hints`, whose pointers
    // are null, and the place for the list.
    let code = unsafe { libc::getaddrinfo(pointer(&host), pointer(&service), &hints, &mut list.0) };
    if code != 0 {
        return Err(error(code));
    }
    Ok(list.entries())
}

/// Asks the C library for the names of an address and a port. **Blocks**; any thread.
///
/// # Errors
///
/// The C library's code.
pub fn system_getnameinfo(
    address: SocketAddr,
    flags: i32,
) -> Result<(String, String), SystemNamesError> {
    // NI_MAXHOST and NI_MAXSERV of netdb.h.
    let (mut host, mut service) = ([0 as libc::c_char; 1025], [0 as libc::c_char; 32]);
    // SAFETY: the pointer and the length describe `address` as a sockaddr during the call; both
    // texts are written within the lengths given.
    let code = unsafe {
        address.with_sockaddr(|pointer, len| {
            libc::getnameinfo(
                pointer.cast(),
                len,
                host.as_mut_ptr(),
                host.len() as libc::socklen_t,
                service.as_mut_ptr(),
                service.len() as libc::socklen_t,
                flags,
            )
        })
    };
    if code != 0 {
        return Err(error(code));
    }
    // SAFETY: the call succeeded, so each text ends with a zero byte within its array.
    let text = |text: &[libc::c_char]| unsafe {
        CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
    };
    Ok((text(&host), text(&service)))
}

fn error(code: i32) -> SystemNamesError {
    let system = code == libc::EAI_SYSTEM;
    SystemNamesError { code, error: system.then(io::Error::last_os_error) }
}

// The list of getaddrinfo(3), freed in the end.
struct List(*mut libc::addrinfo);

impl List {
    fn entries(&self) -> Vec<SystemAddrInfo> {
        let mut entries = Vec::new();
        let mut next = self.0;
        while !next.is_null() {
            // SAFETY: getaddrinfo made this entry; it lives as long as `self`, unchanged.
            let entry = unsafe { &*next };
            next = entry.ai_next;
            let Some(address) = address_of(entry.ai_addr, entry.ai_family) else { continue };
            let canonical_name = (!entry.ai_canonname.is_null()).then(|| {
                // SAFETY: not null, so a text that ends with a zero byte and lives as `self` does.
                unsafe { CStr::from_ptr(entry.ai_canonname) }.to_string_lossy().into_owned()
            });
            entries.push(SystemAddrInfo {
                socket_type: entry.ai_socktype,
                protocol: entry.ai_protocol,
                canonical_name,
                address,
            });
        }
        entries
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the list came from getaddrinfo and is freed once; nothing points into it.
            unsafe { libc::freeaddrinfo(self.0) }
        }
    }
}

fn address_of(address: *const libc::sockaddr, family: i32) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in is there; it may lie at any alignment.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 is there; it may lie at any alignment.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let (port, flow) = (u16::from_be(v6.sin6_port), v6.sin6_flowinfo);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

impl fmt::Display for SystemNamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            return error.fmt(f);
        }
        // SAFETY: gai_strerror gives a text that ends with a zero byte and is never freed.
        let text = unsafe { CStr::from_ptr(libc::gai_strerror(self.code)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for SystemNamesError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_asked() {
        let query = SystemQuery {
            host: Some("127.0.0.1".to_owned()),
            service: Some("80".to_owned()),
            socket_type: libc::SOCK_STREAM,
            ..SystemQuery::default()
        };
        let infos = system_getaddrinfo(&query).expect("a literal");
        assert_eq!(infos.len(), 1);
        assert_eq!(infos[0].address, "127.0.0.1:80".parse().expect("an address"));
        let v6 = SystemQuery { host: Some("::1".to_owned()), ..query.clone() };
        let infos = system_getaddrinfo(&v6).expect("a literal");
        assert_eq!(infos[0].address, "[::1]:80".parse().expect("an address"));

        let nothing = SystemQuery { host: Some("a\0b".to_owned()), ..query.clone() };
        let error = system_getaddrinfo(&nothing).expect_err("a zero byte");
        assert_eq!(error.code, libc::EAI_NONAME);
        assert!(!error.to_string().is_empty());
        let number = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
        let names = system_getnameinfo(infos[0].address, number).expect("digits");
        assert_eq!(names, ("::1".to_owned(), "80".to_owned()));
    }
}
