use std::collections::HashMap;

/// The table of service names and ports (services(5)), with the common ones built in.
///
/// ```
/// use tepal_names::config::{Services, IpProtocol};
///
/// let services = Services::parse("irc-tls 6697/tcp ircs # chat\n");
/// assert_eq!(services.port("ircs", IpProtocol::Tcp), Some(6697));
/// assert_eq!(services.name(6697, IpProtocol::Tcp), Some("irc-tls"));
/// assert_eq!(Services::default().port("https", IpProtocol::Tcp), Some(443));
/// ```
#[derive(Clone, Debug)]
pub struct Services {
    entries: Vec<Service>,
    // (name or alias, transport) and (port, transport) -> index; the first line wins.
    by_name: HashMap<(Box<str>, IpProtocol), u32>,
    by_port: HashMap<(u16, IpProtocol), u32>,
}

/// One line of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The official name.
    pub name: Box<str>,
    /// The port.
    pub port: u16,
    /// The transport protocol the line is for.
    pub transport: IpProtocol,
}

/// A transport protocol, by its IANA number and its name in services(5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpProtocol {
    /// 6, `tcp`.
    Tcp,
    /// 17, `udp`.
    Udp,
    /// 33, `dccp`.
    Dccp,
    /// 132, `sctp`.
    Sctp,
    /// 136, `udplite`.
    UdpLite,
}

impl IpProtocol {
    fn from_name(name: &str) -> Option<IpProtocol> {
        Some(match name {
            "tcp" => IpProtocol::Tcp,
            "udp" => IpProtocol::Udp,
            "dccp" => IpProtocol::Dccp,
            "sctp" => IpProtocol::Sctp,
            "udplite" => IpProtocol::UdpLite,
            _ => return None,
        })
    }
}

impl Services {
    /// Reads the file's text. Lines that are no `name port/transport [alias...]` are left out.
    ///
    /// An empty file is an empty table; where there is no file at all, use
    /// [`Services::default`].
    pub fn parse(text: &str) -> Services {
        let mut services =
            Services { entries: Vec::new(), by_name: HashMap::new(), by_port: HashMap::new() };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(target)) = (words.next(), words.next()) else { continue };
            let Some((port, transport)) = target.split_once('/') else { continue };
            let (Ok(port), Some(transport)) = (port.parse(), IpProtocol::from_name(transport))
            else {
                continue;
            };
            services.add(name, port, transport, words);
        }
        services
    }

    fn add<'a>(
        &mut self,
        name: &'a str,
        port: u16,
        transport: IpProtocol,
        aliases: impl Iterator<Item = &'a str>,
    ) {
        let Ok(index) = u32::try_from(self.entries.len()) else { return };
        for known in std::iter::once(name).chain(aliases) {
            self.by_name.entry((known.into(), transport)).or_insert(index);
        }
        self.by_port.entry((port, transport)).or_insert(index);
        self.entries.push(Service { name: name.into(), port, transport });
    }

    /// The port of a service by name or alias. Case counts, as in getservbyname(3).
    pub fn port(&self, name: &str, transport: IpProtocol) -> Option<u16> {
        let index = *self.by_name.get(&(Box::from(name), transport))?;
        self.entries.get(index as usize).map(|service| service.port)
    }

    /// The official name of a port's service.
    pub fn name(&self, port: u16, transport: IpProtocol) -> Option<&str> {
        let index = *self.by_port.get(&(port, transport))?;
        self.entries.get(index as usize).map(|service| &*service.name)
    }
}

/// The services that programs name most, for machines without the file.
impl Default for Services {
    fn default() -> Services {
        Services::parse(COMMON)
    }
}

// From the IANA registry of service names and port numbers.
const COMMON: &str = "\
echo 7/tcp
echo 7/udp
discard 9/tcp
discard 9/udp
daytime 13/tcp
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
time 37/tcp
whois 43/tcp nicname
domain 53/tcp
domain 53/udp
tftp 69/udp
gopher 70/tcp
finger 79/tcp
http 80/tcp www
kerberos 88/tcp
kerberos 88/udp
pop3 110/tcp
sunrpc 111/tcp portmapper
sunrpc 111/udp portmapper
nntp 119/tcp
ntp 123/udp
imap2 143/tcp imap
snmp 161/udp
snmp-trap 162/udp snmptrap
irc 194/tcp
ldap 389/tcp
ldap 389/udp
https 443/tcp
https 443/udp
microsoft-ds 445/tcp
submissions 465/tcp smtps
syslog 514/udp
printer 515/tcp
submission 587/tcp
ipp 631/tcp
ldaps 636/tcp
domain-s 853/tcp
domain-s 853/udp
rsync 873/tcp
imaps 993/tcp
pop3s 995/tcp
socks 1080/tcp
openvpn 1194/udp
mysql 3306/tcp
ms-wbt-server 3389/tcp
sip 5060/tcp
sip 5060/udp
sip-tls 5061/tcp
xmpp-client 5222/tcp
xmpp-server 5269/tcp
mdns 5353/udp
postgresql 5432/tcp
amqp 5672/tcp
redis 6379/tcp
ircs-u 6697/tcp ircs
http-alt 8080/tcp
git 9418/tcp
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_or_port_wins() {
        let services = Services::parse("a 1/tcp x\nb 1/tcp a\nc 2/udp x\nbad\nd 70000/tcp\ne 3/\n");
        assert_eq!(services.port("a", IpProtocol::Tcp), Some(1));
        assert_eq!(services.port("b", IpProtocol::Tcp), Some(1));
        assert_eq!(services.name(1, IpProtocol::Tcp), Some("a"));
        assert_eq!(services.port("x", IpProtocol::Udp), Some(2));
        assert_eq!(services.port("A", IpProtocol::Tcp), None);
        assert_eq!(services.port("d", IpProtocol::Tcp), None);
    }

    #[test]
    fn every_built_in_line_is_understood() {
        assert_eq!(Services::default().entries.len(), COMMON.lines().count());
        assert_eq!(Services::default().name(53, IpProtocol::Udp), Some("domain"));
    }
}
