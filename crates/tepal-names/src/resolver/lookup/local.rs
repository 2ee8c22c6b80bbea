//! What is known without a name server, and what a server is to be asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Goal;
use crate::resolver::{Answer, HostAnswer, NamesAnswer, Origin, Resolver};
use crate::{DnsName, HostAddr};

impl Resolver {
    /// The names to be asked for, in order: glibc's res_search.
    pub(super) fn candidates(&self, goal: &Goal) -> Vec<DnsName> {
        let name = match goal {
            Goal::Host { name, .. } | Goal::Records { name, .. } => name,
            Goal::Address(address) => return vec![reverse_name(*address)],
        };
        let as_written = DnsName::from(name);
        if name.is_absolute() {
            return vec![as_written];
        }
        let dots = name.dot_count();
        let mut candidates = Vec::with_capacity(1 + self.conf.search.len());
        let first = dots >= self.conf.ndots;
        if first {
            candidates.push(as_written.clone());
        }
        for domain in &self.conf.search {
            let Some(candidate) = DnsName::joined(name, domain) else { continue };
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        let searched = !self.conf.search.is_empty();
        if !first
            && (dots > 0 || !searched || !self.conf.no_tld_query)
            && !candidates.contains(&as_written)
        {
            candidates.push(as_written);
        }
        candidates
    }

    pub(super) fn in_hosts(&self, goal: &Goal) -> Option<Answer> {
        match goal {
            Goal::Host { name, family } => {
                let entry = self.hosts.lookup(name.as_str(), *family)?;
                let addresses = entry.addresses.iter().map(|&ip| HostAddr::from(ip)).collect();
                Some(host_answer(entry.canonical, addresses, Origin::Hosts))
            }
            Goal::Address(address) => {
                let names = self.hosts.names_of(*address)?.map(Box::from).collect();
                Some(Answer::Names(NamesAnswer { names, origin: Origin::Hosts }))
            }
            Goal::Records { .. } => None,
        }
    }

    pub(super) fn in_myhostname(&self, goal: &Goal) -> Option<Answer> {
        if let Some(answer) = localhost(goal) {
            return Some(answer);
        }
        let own = self.hostname.as_ref()?;
        match goal {
            Goal::Host { name, family } if name.as_str() == own.as_str() => {
                let mut addresses = self.local_addresses.clone();
                if addresses.is_empty() {
                    addresses.push(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)).into());
                    addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST).into());
                }
                addresses.retain(|address| family.includes(address.ip));
                let some = !addresses.is_empty();
                some.then(|| host_answer(own.as_str(), addresses, Origin::MyHostname))
            }
            Goal::Address(address) => {
                let ours = self.local_addresses.iter().any(|local| local.ip == *address)
                    || *address == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
                let names = vec![own.as_str().into()];
                ours.then_some(Answer::Names(NamesAnswer { names, origin: Origin::MyHostname }))
            }
            _ => None,
        }
    }
}

fn host_answer(canonical: &str, addresses: Vec<HostAddr>, origin: Origin) -> Answer {
    let canonical = canonical.into();
    Answer::Host(HostAnswer { canonical, addresses, origin, expires: None, missing: None })
}

/// RFC 6761, section 6.3: `localhost` and what is below it are loopback, without any question.
pub(super) fn localhost(goal: &Goal) -> Option<Answer> {
    match goal {
        Goal::Host { name, family }
            if name.is_within("localhost") || name.as_str() == "localhost.localdomain" =>
        {
            let both = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
            let addresses =
                both.into_iter().filter(|ip| family.includes(*ip)).map(HostAddr::from).collect();
            Some(host_answer(name.as_str(), addresses, Origin::Localhost))
        }
        Goal::Address(address)
            if address.is_loopback() && *address != IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)) =>
        {
            let names = vec!["localhost".into()];
            Some(Answer::Names(NamesAnswer { names, origin: Origin::Localhost }))
        }
        _ => None,
    }
}

/// Whether a module, if it were here, would be the one to know: multicast DNS owns `.local`
/// (RFC 6762), nss-myhostname's and nss-mymachines's siblings their own.
pub(super) fn is_theirs(module: &str, goal: &Goal) -> bool {
    match goal {
        Goal::Host { name, .. } => {
            (module.starts_with("mdns") || module == "resolve") && name.is_within("local")
        }
        _ => false,
    }
}

/// RFC 1035, section 3.5, and RFC 3596, section 2.5.
pub(super) fn reverse_name(address: IpAddr) -> DnsName {
    let text = match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let mut text = String::with_capacity(72);
            for byte in v6.octets().into_iter().rev() {
                text.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            }
            text + "ip6.arpa"
        }
    };
    DnsName::from_labels(text.split('.').map(str::as_bytes))
        .expect("a reverse name has at most 72 bytes and labels of 1 to 7")
}
