use std::net::{IpAddr, Ipv6Addr};

/// The policy table of RFC 6724, section 2.1: a precedence and a label for each address.
///
/// The default is the RFC's table; gai.conf(5) can replace it. IPv4 addresses are looked up in
/// their mapped form, `::ffff:0:0/96`.
///
/// ```
/// use tepal_names::config::Policy;
///
/// let policy = Policy::parse("precedence ::ffff:0:0/96 100\n"); // prefer IPv4
/// assert!(policy.precedence("192.0.2.1".parse().unwrap()) > policy.precedence("::1".parse().unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    precedences: Vec<Rule>,
    labels: Vec<Rule>,
    // IPv4 prefixes with their scope, longest first.
    scopes: Vec<Rule>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    prefix: u128,
    // 0..=128
    len: u32,
    value: u32,
}

impl Policy {
    /// Reads gai.conf's text: lines `precedence`, `label` and `scopev4`.
    ///
    /// As in glibc, one `precedence` line replaces the whole table of precedences, one `label`
    /// line that of labels, one `scopev4` line that of scopes. Lines that cannot be understood
    /// are left out.
    pub fn parse(text: &str) -> Policy {
        let mut policy = Policy { precedences: vec![], labels: vec![], scopes: vec![] };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [key, prefix, value] = words[..] else { continue };
            let (Some((prefix, len)), Ok(value)) = (parse_prefix(prefix), value.parse()) else {
                continue;
            };
            let rule = Rule { prefix: prefix & mask(len), len, value };
            match key {
                "precedence" => policy.precedences.push(rule),
                "label" => policy.labels.push(rule),
                "scopev4" if len >= 96 => policy.scopes.push(rule),
                _ => {}
            }
        }
        let standard = Policy::default();
        for (rules, standard) in [
            (&mut policy.precedences, standard.precedences),
            (&mut policy.labels, standard.labels),
            (&mut policy.scopes, standard.scopes),
        ] {
            if rules.is_empty() {
                *rules = standard;
            }
            // The longest prefix wins; a stable sort keeps the first of equals.
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.len));
        }
        policy
    }

    /// How much the address is preferred as a destination; more is better.
    pub fn precedence(&self, address: IpAddr) -> u32 {
        find(&self.precedences, address).unwrap_or(0)
    }

    /// The label; a source and a destination with the same one belong together.
    pub fn label(&self, address: IpAddr) -> Option<u32> {
        find(&self.labels, address)
    }

    /// The scope of an address as a multicast scope: 2 link-local, 5 site-local, 14 global.
    ///
    /// RFC 6724, sections 3.1 and 3.2: IPv4 loopback and auto-configured addresses are link-local,
    /// all other IPv4 ones global.
    pub fn scope(&self, address: IpAddr) -> u32 {
        match address {
            IpAddr::V4(_) => find(&self.scopes, address).unwrap_or(14),
            IpAddr::V6(v6) => scope_v6(v6),
        }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        // prefix, length, precedence, label: RFC 6724, section 2.1.
        const TABLE: [(Ipv6Addr, u32, u32, u32); 9] = [
            (Ipv6Addr::LOCALHOST, 128, 50, 0),
            (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
            (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35, 4),
            (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
            (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
            (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
            (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
            (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
            (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
        ];
        // IPv4 prefix, length, scope: section 3.2.
        const SCOPES: [([u8; 4], u32, u32); 3] =
            [([169, 254, 0, 0], 16, 2), ([127, 0, 0, 0], 8, 2), ([0, 0, 0, 0], 0, 14)];

        let mut table = TABLE;
        table.sort_by_key(|(_, len, _, _)| std::cmp::Reverse(*len));
        let rule = |prefix: Ipv6Addr, len, value| Rule { prefix: prefix.to_bits(), len, value };
        Policy {
            precedences: table.iter().map(|&(p, len, value, _)| rule(p, len, value)).collect(),
            labels: table.iter().map(|&(p, len, _, value)| rule(p, len, value)).collect(),
            scopes: SCOPES
                .iter()
                .map(|&(octets, len, value)| Rule {
                    prefix: mapped(IpAddr::from(octets)),
                    len: 96 + len,
                    value,
                })
                .collect(),
        }
    }
}

fn find(rules: &[Rule], address: IpAddr) -> Option<u32> {
    let bits = mapped(address);
    rules.iter().find(|rule| bits & mask(rule.len) == rule.prefix).map(|rule| rule.value)
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(len: u32) -> u128 {
    u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0)
}

fn scope_v6(address: Ipv6Addr) -> u32 {
    if address.is_multicast() {
        u32::from(address.segments()[0] & 0xf)
    } else if address.is_unicast_link_local() || address.is_loopback() {
        2
    } else if address.segments()[0] & 0xffc0 == 0xfec0 {
        5
    } else {
        14
    }
}

/// `address[/length]`, an IPv4 one in its mapped form.
fn parse_prefix(text: &str) -> Option<(u128, u32)> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u32>().ok()?)),
        None => (text, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(v4) => {
            let len = len.unwrap_or(32);
            (len <= 32).then(|| (v4.to_ipv6_mapped().to_bits(), 96 + len))
        }
        IpAddr::V6(v6) => {
            let len = len.unwrap_or(128);
            (len <= 128).then_some((v6.to_bits(), len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let policy = Policy::default();
        for (address, precedence, label) in [
            ("::1", 50, 0),
            ("2001:db8::1", 40, 1),
            ("192.0.2.1", 35, 4),
            ("2002:c000:201::1", 30, 2),
            ("2001::1", 5, 5),
            ("fd00::1", 3, 13),
            ("::192.0.2.1", 1, 3),
            ("fec0::1", 1, 11),
            ("3ffe::1", 1, 12),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(policy.precedence(address), precedence, "{address}");
            assert_eq!(policy.label(address), Some(label), "{address}");
        }
    }

    #[test]
    fn a_line_of_gai_conf_replaces_its_whole_table() {
        let policy = Policy::parse(
            "label ::/0 7\nbad\nprecedence x 1\nprecedence ::/129 1\nscopev4 10.0.0.0/8 5 # site\n\
             scopev4 ::/0 2\n",
        );
        assert_eq!(policy.label("::1".parse().unwrap()), Some(7));
        assert_eq!(policy.precedence("::1".parse().unwrap()), 50);
        assert_eq!(policy.scope("10.0.0.1".parse().unwrap()), 5);
        assert_eq!(policy.scope("127.0.0.1".parse().unwrap()), 14);
        assert_eq!(Policy::parse(""), Policy::default());
        assert_eq!(Policy::default().scope("169.254.1.1".parse().unwrap()), 2);
        assert_eq!(Policy::default().scope("ff05::1".parse().unwrap()), 5);
    }
}
