use super::AddrInfoError;
use crate::Family;

/// What is wanted. The default wants everything: three entries per address.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hints {
    /// The flags.
    pub flags: Flags,
    /// The family. Callers with a number that is none of these answer
    /// [`AddrInfoError::Family`] themselves.
    pub family: Family,
    /// The socket type, or [`SocketType::ANY`].
    pub socket_type: SocketType,
    /// The protocol's IANA number; 0 for any.
    pub protocol: i32,
}

/// The flags of getaddrinfo, by glibc's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(pub u32);

impl Flags {
    /// `AI_PASSIVE`: without a host, the address to listen on.
    pub const PASSIVE: Flags = Flags(0x0001);
    /// `AI_CANONNAME`: the first entry has the canonical name.
    pub const CANONNAME: Flags = Flags(0x0002);
    /// `AI_NUMERICHOST`: the host is a literal.
    pub const NUMERICHOST: Flags = Flags(0x0004);
    /// `AI_V4MAPPED`: IPv4 addresses in mapped form if there is no IPv6 one.
    pub const V4MAPPED: Flags = Flags(0x0008);
    /// `AI_ALL`: with `V4MAPPED`, also if there is one.
    pub const ALL: Flags = Flags(0x0010);
    /// `AI_ADDRCONFIG`: only families that the machine has; see [`Flags::restrict`].
    pub const ADDRCONFIG: Flags = Flags(0x0020);
    /// `AI_NUMERICSERV`: the service is a number.
    pub const NUMERICSERV: Flags = Flags(0x0400);
    // AI_IDN, AI_CANONIDN and two obsolete ones: names are always converted.
    pub(super) const KNOWN: u32 =
        0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0400 | 0x03c0;

    /// Whether every flag of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is wrong already with these flags and with whether a host and a service are named.
    ///
    /// # Errors
    ///
    /// [`AddrInfoError::NoName`] if neither is named, [`AddrInfoError::BadFlags`] for unknown flags
    /// and for `AI_CANONNAME` without a host.
    pub fn check(self, host: Option<&str>, service: Option<&str>) -> Result<(), AddrInfoError> {
        if host.is_none() && service.is_none() {
            return Err(AddrInfoError::NoName);
        }
        if self.0 & !Flags::KNOWN != 0 || self.has(Flags::CANONNAME) && host.is_none() {
            return Err(AddrInfoError::BadFlags);
        }
        Ok(())
    }

    /// What `AI_ADDRCONFIG` makes of a family, given which families of addresses other than
    /// `127.0.0.1` and `::1` the machine's interfaces have.
    ///
    /// # Errors
    ///
    /// [`AddrInfoError::NoName`] if the family is wanted that the machine lacks.
    pub fn restrict(
        self,
        family: Family,
        has_v4: bool,
        has_v6: bool,
    ) -> Result<Family, AddrInfoError> {
        if !self.has(Flags::ADDRCONFIG) {
            return Ok(family);
        }
        match family {
            Family::Unspecified if has_v4 && !has_v6 => Ok(Family::V4),
            Family::Unspecified if has_v6 && !has_v4 => Ok(Family::V6),
            Family::V4 if !has_v4 => Err(AddrInfoError::NoName),
            Family::V6 if !has_v6 => Err(AddrInfoError::NoName),
            family => Ok(family),
        }
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A socket type, by Linux's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SocketType(pub i32);

impl SocketType {
    /// No type in particular.
    pub const ANY: SocketType = SocketType(0);
    /// `SOCK_STREAM`.
    pub const STREAM: SocketType = SocketType(1);
    /// `SOCK_DGRAM`.
    pub const DATAGRAM: SocketType = SocketType(2);
    /// `SOCK_RAW`.
    pub const RAW: SocketType = SocketType(3);
    /// `SOCK_SEQPACKET`.
    pub const SEQUENCED: SocketType = SocketType(5);
    /// `SOCK_DCCP`.
    pub const DCCP: SocketType = SocketType(6);
}
