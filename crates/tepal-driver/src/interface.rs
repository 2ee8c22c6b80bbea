use std::net::IpAddr;

/// A network interface of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkInterface {
    /// Its number: the scope id of link-local addresses on it.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}
