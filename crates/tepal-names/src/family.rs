use std::net::IpAddr;

/// Which addresses are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Family {
    /// Both families (`AF_UNSPEC`).
    #[default]
    Unspecified,
    /// IPv4 alone (`AF_INET`).
    V4,
    /// IPv6 alone (`AF_INET6`).
    V6,
}

impl Family {
    /// Whether an address is of this family.
    pub fn includes(self, address: IpAddr) -> bool {
        match self {
            Family::Unspecified => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}
