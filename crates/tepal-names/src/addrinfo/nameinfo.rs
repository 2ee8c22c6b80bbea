use std::net::{IpAddr, SocketAddr};

use super::AddrInfoError;
use crate::config::{IpProtocol, Services};
use crate::error::LookupError;
use crate::literal::is_link_scoped;
use crate::resolver::NamesAnswer;
use crate::{HostAddr, Interfaces};

/// The flags of getnameinfo, by glibc's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NameInfoFlags(pub u32);

impl NameInfoFlags {
    /// `NI_NUMERICHOST`: the address as digits.
    pub const NUMERICHOST: NameInfoFlags = NameInfoFlags(1);
    /// `NI_NUMERICSERV`: the port as digits.
    pub const NUMERICSERV: NameInfoFlags = NameInfoFlags(2);
    /// `NI_NOFQDN`: a local host without its domain.
    pub const NOFQDN: NameInfoFlags = NameInfoFlags(4);
    /// `NI_NAMEREQD`: an error rather than digits for the host.
    pub const NAMEREQD: NameInfoFlags = NameInfoFlags(8);
    /// `NI_DGRAM`: the service is a datagram one.
    pub const DGRAM: NameInfoFlags = NameInfoFlags(16);
    // NI_IDN and two obsolete ones: names are given as DNS has them.
    const KNOWN: u32 = 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128;

    /// Whether every flag of `other` is set.
    pub fn has(self, other: NameInfoFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for NameInfoFlags {
    type Output = NameInfoFlags;

    fn bitor(self, other: NameInfoFlags) -> NameInfoFlags {
        NameInfoFlags(self.0 | other.0)
    }
}

/// A call of getnameinfo; see the [module](super).
///
/// ```
/// use tepal_names::Interfaces;
/// use tepal_names::addrinfo::{NameInfoFlags, NameInfoPlan};
/// use tepal_names::config::Services;
///
/// let address = "192.0.2.1:443".parse().unwrap();
/// let plan = NameInfoPlan::new(address, NameInfoFlags::NUMERICHOST)?;
/// assert_eq!(plan.lookup(), None);
/// let info = plan.finish(None, &Services::default(), &Interfaces::default(), None)?;
/// assert_eq!((&*info.host, &*info.service), ("192.0.2.1", "https"));
/// # Ok::<(), tepal_names::addrinfo::AddrInfoError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NameInfoPlan {
    address: SocketAddr,
    flags: NameInfoFlags,
}

/// What getnameinfo gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameInfo {
    /// A name, or the address as digits with its zone.
    pub host: Box<str>,
    /// A service's name, or the port as digits.
    pub service: Box<str>,
}

impl NameInfoPlan {
    /// Understands the arguments.
    ///
    /// # Errors
    ///
    /// [`AddrInfoError::BadFlags`] for unknown flags.
    pub fn new(address: SocketAddr, flags: NameInfoFlags) -> Result<NameInfoPlan, AddrInfoError> {
        if flags.0 & !NameInfoFlags::KNOWN != 0 {
            return Err(AddrInfoError::BadFlags);
        }
        Ok(NameInfoPlan { address, flags })
    }

    /// The address to be looked up by
    /// [`Resolver::lookup_address`](crate::Resolver::lookup_address); `None` if digits will do.
    pub fn lookup(&self) -> Option<IpAddr> {
        (!self.flags.has(NameInfoFlags::NUMERICHOST)).then(|| self.address.ip())
    }

    /// Makes the result from what the look-up found.
    ///
    /// `local_domain` is the domain of this machine's name, for `NI_NOFQDN`.
    ///
    /// # Errors
    ///
    /// Without a name and with `NI_NAMEREQD`: [`AddrInfoError::NoName`], or
    /// [`AddrInfoError::Again`] if it may be found later. Without that flag a failed look-up means
    /// digits.
    pub fn finish(
        self,
        answer: Option<Result<&NamesAnswer, &LookupError>>,
        services: &Services,
        interfaces: &Interfaces,
        local_domain: Option<&str>,
    ) -> Result<NameInfo, AddrInfoError> {
        let named = match answer {
            Some(Ok(answer)) => answer.names.first(),
            _ => None,
        };
        let host = match named {
            Some(name) if self.flags.has(NameInfoFlags::NOFQDN) => {
                without_domain(name, local_domain)
            }
            Some(name) => name.clone(),
            None if self.flags.has(NameInfoFlags::NAMEREQD) => {
                return Err(match answer {
                    Some(Err(error)) if error.kind.is_temporary() => AddrInfoError::Again,
                    _ => AddrInfoError::NoName,
                });
            }
            None => self.digits(interfaces),
        };
        let transport =
            if self.flags.has(NameInfoFlags::DGRAM) { IpProtocol::Udp } else { IpProtocol::Tcp };
        let port = self.address.port();
        let service = match services.name(port, transport) {
            Some(name) if !self.flags.has(NameInfoFlags::NUMERICSERV) => name.into(),
            _ => port.to_string().into(),
        };
        Ok(NameInfo { host, service })
    }

    fn digits(&self, interfaces: &Interfaces) -> Box<str> {
        let HostAddr { ip, scope_id } = self.address.into();
        match ip {
            IpAddr::V6(v6) if scope_id != 0 => {
                let named = if is_link_scoped(v6) { interfaces.name(scope_id) } else { None };
                match named {
                    Some(name) => format!("{v6}%{name}").into(),
                    None => format!("{v6}%{scope_id}").into(),
                }
            }
            ip => ip.to_string().into(),
        }
    }
}

fn without_domain(name: &str, local_domain: Option<&str>) -> Box<str> {
    let Some(domain) = local_domain.filter(|domain| !domain.is_empty()) else {
        return name.into();
    };
    match name.split_once('.') {
        Some((host, rest)) if rest.eq_ignore_ascii_case(domain) => host.into(),
        _ => name.into(),
    }
}
