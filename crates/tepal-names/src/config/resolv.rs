use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

use crate::literal::is_link_scoped;
use crate::{HostAddr, HostName, Interfaces};

/// What resolv.conf(5) says, with glibc's caps and defaults.
///
/// Only the first three servers count, `ndots` is at most 15, `timeout` at most 30 s and
/// `attempts` at most 5; without a server it is `127.0.0.1`. The last of the lines `search` and
/// `domain` counts; without one, the search list is the part of the machine's name behind its
/// first dot. A word that cannot be understood is left out and the rest is kept.
///
/// ```
/// use tepal_names::Interfaces;
/// use tepal_names::config::{Environment, ResolvConf};
///
/// let text = "nameserver 192.0.2.1\nsearch corp.example\noptions ndots:2 rotate\n";
/// let conf = ResolvConf::parse(text, &Environment::default(), &Interfaces::default());
/// assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap()]);
/// assert_eq!(conf.search[0].as_str(), "corp.example");
/// assert!(conf.rotate && conf.ndots == 2);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvConf {
    /// The name servers, in order; not empty.
    pub servers: Vec<SocketAddr>,
    /// Domains that are tried behind a name with few dots, in order; at most 32.
    pub search: Vec<HostName>,
    /// A name with at least so many dots is tried as it is first. Default 1, at most 15.
    pub ndots: usize,
    /// How long the first server may take. Default 5 s, 1 to 30 s.
    pub timeout: Duration,
    /// How often the list of servers is gone through. Default 2, 1 to 5.
    pub attempts: u32,
    /// Each query begins with the next server instead of the first.
    pub rotate: bool,
    /// Asks for EDNS. It is sent in any case and left out where a server cannot bear it.
    pub edns0: bool,
    /// The AD bit of answers is trusted and asked for: the path to the servers is safe.
    pub trust_ad: bool,
    /// Every query goes over TCP.
    pub use_vc: bool,
    /// No AAAA queries when addresses of both families are wanted.
    pub no_aaaa: bool,
    /// A name without a dot is not tried as it is.
    pub no_tld_query: bool,
    /// A and AAAA queries go one after the other.
    pub single_request: bool,
}

/// Values of the environment that change [`ResolvConf`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Environment {
    /// `LOCALDOMAIN`: replaces the search list.
    pub localdomain: Option<String>,
    /// `RES_OPTIONS`: more words for the line `options`, which win.
    pub res_options: Option<String>,
    /// The machine's own name, for the default search list.
    pub hostname: Option<String>,
}

/// glibc's MAXNS.
const MAX_SERVERS: usize = 3;
/// glibc 2.26 lifted its limit of 6; ours bounds the work of one look-up.
const MAX_SEARCH: usize = 32;

impl ResolvConf {
    /// Reads the file's text (empty if there is no file). Never fails; see the type.
    ///
    /// `interfaces` names the zones of link-local servers (`nameserver fe80::1%eth0`).
    pub fn parse(text: &str, environment: &Environment, interfaces: &Interfaces) -> ResolvConf {
        let mut whole = text.to_owned();
        if let Some(options) = &environment.res_options {
            // One line, whatever the variable holds.
            let options = options.replace(['\n', '\r', ';', '#'], " ");
            whole.push_str("\noptions ");
            whole.push_str(&options);
            whole.push('\n');
        }
        // The errors name lines that are left out, as glibc leaves them out without a word.
        let (config, _errors) = Config::parse_with_errors(whole.as_bytes());
        ResolvConf {
            servers: servers(&config, interfaces),
            search: search(&config, environment),
            ndots: (config.ndots as usize).min(15),
            timeout: Duration::from_secs(config.timeout.clamp(1, 30).into()),
            attempts: config.attempts.clamp(1, 5),
            rotate: config.rotate,
            edns0: config.edns0,
            trust_ad: config.trust_ad,
            use_vc: config.use_vc,
            no_aaaa: config.no_aaaa,
            no_tld_query: config.no_tld_query,
            single_request: config.single_request || config.single_request_reopen,
        }
    }
}

/// What an empty file means.
impl Default for ResolvConf {
    fn default() -> ResolvConf {
        ResolvConf::parse("", &Environment::default(), &Interfaces::default())
    }
}

fn servers(config: &Config, interfaces: &Interfaces) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = config
        .nameservers
        .iter()
        .filter_map(|server| server_address(server, interfaces))
        .take(MAX_SERVERS)
        .map(|address| address.with_port(53))
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53));
    }
    servers
}

fn server_address(server: &ScopedIp, interfaces: &Interfaces) -> Option<HostAddr> {
    Some(match server {
        ScopedIp::V4(ip) => HostAddr::from(IpAddr::V4(*ip)),
        ScopedIp::V6(ip, None) => HostAddr::from(IpAddr::V6(*ip)),
        ScopedIp::V6(ip, Some(zone)) => {
            let named = if is_link_scoped(*ip) { interfaces.index(zone) } else { None };
            let scope_id = named.or_else(|| zone.parse().ok())?;
            HostAddr { ip: IpAddr::V6(*ip), scope_id }
        }
    })
}

fn search(config: &Config, environment: &Environment) -> Vec<HostName> {
    let words: Vec<&str> = match &environment.localdomain {
        Some(words) => words.split_ascii_whitespace().collect(),
        None => {
            let list: Vec<&str> = config.get_last_search_or_domain().map(String::as_str).collect();
            let named = config.get_search().is_some() || config.get_domain().is_some();
            match environment.hostname.as_deref().and_then(|name| name.split_once('.')) {
                Some((_, domain)) if !named => vec![domain],
                _ => list,
            }
        }
    };
    words.iter().filter_map(|word| word.parse().ok()).take(MAX_SEARCH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, &Environment::default(), &Interfaces::new([("eth0", 2)]))
    }

    fn search(conf: &ResolvConf) -> Vec<&str> {
        conf.search.iter().map(HostName::as_str).collect()
    }

    #[test]
    fn an_empty_file_means_the_local_server() {
        let conf = parse("");
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert!(conf.search.is_empty());
        assert_eq!((conf.ndots, conf.attempts, conf.timeout.as_secs()), (1, 2, 5));
        assert_eq!(conf, ResolvConf::default());
    }

    #[test]
    fn values_are_capped_as_glibc_caps_them() {
        let conf = parse(
            "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.3\n\
             nameserver 192.0.2.4\noptions ndots:99 timeout:99 attempts:99\n",
        );
        assert_eq!(conf.servers.len(), 3);
        assert_eq!(conf.servers[1].to_string(), "[fe80::1%2]:53");
        assert_eq!((conf.ndots, conf.attempts, conf.timeout.as_secs()), (15, 5, 30));
        let conf = parse("options timeout:0 attempts:0 ndots:0");
        assert_eq!((conf.ndots, conf.attempts, conf.timeout.as_secs()), (0, 1, 1));
    }

    #[test]
    fn each_option_is_understood_alone_and_beside_those_that_mean_nothing_here() {
        type Check = fn(&ResolvConf) -> bool;
        let cases: [(&str, Check); 13] = [
            ("rotate", |conf| conf.rotate),
            ("edns0", |conf| conf.edns0),
            ("trust-ad", |conf| conf.trust_ad),
            ("use-vc", |conf| conf.use_vc),
            ("no-aaaa", |conf| conf.no_aaaa),
            ("no-tld-query", |conf| conf.no_tld_query),
            ("single-request", |conf| conf.single_request),
            ("single-request-reopen", |conf| conf.single_request),
            ("ndots:2", |conf| conf.ndots == 2),
            ("ndots:0", |conf| conf.ndots == 0),
            ("timeout:3", |conf| conf.timeout.as_secs() == 3),
            ("attempts:4", |conf| conf.attempts == 4),
            ("inet6", |conf| *conf == ResolvConf::default()),
        ];
        for (option, is_set) in cases {
            let alone = parse(&format!("options {option}"));
            assert!(is_set(&alone), "{option}");
            let among = parse(&format!("options debug no-check-names\toh-no {option} inet6 \n"));
            assert_eq!(among, alone, "{option}");
        }
    }

    #[test]
    fn the_last_of_search_and_domain_counts() {
        assert_eq!(search(&parse("search a.example b.example\ndomain c.example")), ["c.example"]);
        assert_eq!(search(&parse("domain c.example\nsearch a. bad..name b")), ["a", "b"]);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment = Environment {
            localdomain: Some("x.example y.example".into()),
            res_options: Some("ndots:3 use-vc\nnameserver 192.0.2.9".into()),
            hostname: Some("host.corp.example".into()),
        };
        let conf =
            ResolvConf::parse("search a\noptions ndots:2 no-aaaa", &environment, &<_>::default());
        assert_eq!(search(&conf), ["x.example", "y.example"]);
        assert!(conf.ndots == 3 && conf.use_vc && conf.no_aaaa);
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        let environment = Environment { localdomain: None, ..environment };
        let conf = ResolvConf::parse("", &environment, &<_>::default());
        assert_eq!(search(&conf), ["corp.example"]);
        let conf = ResolvConf::parse("search .", &environment, &<_>::default());
        assert_eq!(search(&conf), [""]);
    }

    #[test]
    fn garbage_takes_nothing_away() {
        let conf = parse(
            "\0\0\0\nnameserver\nnameserver 300.1.1.1\nnameserver 192.0.2.7 # c\n; x\n# y\n\
             options\noptions ndots:x timeout: :::: rotate\nsearch\nnameserver fe80::1%nope\n",
        );
        assert_eq!(conf.servers, ["192.0.2.7:53".parse().unwrap()]);
        assert!(conf.rotate && conf.ndots == 1);
    }
}
