//! The system's files as tables, read again when they change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tepal_base::Instant;
use tepal_driver::{Address, Domain, Driver, FileStamp, Kind, NetworkInterface};
use tepal_names::config::{Environment, Hosts, Nsswitch, Policy, ResolvConf, Services};
use tepal_names::{HostAddr, Interfaces, Source};

/// Where the system's files are.
///
/// The default is where every Unix has them. Other paths serve tests, and programs that bring
/// their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemFiles {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/nsswitch.conf`.
    pub nsswitch: PathBuf,
    /// `/etc/gai.conf`.
    pub gai_conf: PathBuf,
    /// `/etc/services`.
    pub services: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        SystemFiles {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            gai_conf: "/etc/gai.conf".into(),
            services: "/etc/services".into(),
        }
    }
}

/// What resolvers are told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) hosts: Arc<Hosts>,
    pub(super) resolv_conf: ResolvConf,
    pub(super) nsswitch: Nsswitch,
    pub(super) host_name: Option<String>,
    pub(super) addresses: Vec<HostAddr>,
    pub(super) interfaces: Interfaces,
}

pub(super) struct Tables {
    files: SystemFiles,
    next_check: Instant,
    // Counts changes of `told`; 0: nothing was read yet.
    pub(super) version: u64,
    pub(super) told: Told,
    pub(super) policy: Policy,
    stamps: Stamps,
    // A name server in resolv.conf is written with the interface that leads to it.
    zoned: bool,
    // Read once a service is named.
    services: Option<Services>,
    // Listed once somebody asks, at most once a period.
    listed: Option<Vec<NetworkInterface>>,
    // For one period.
    pub(super) sources: Sources,
}

#[derive(Default)]
struct Stamps {
    hosts: Stamp,
    resolv_conf: Stamp,
    nsswitch: Stamp,
    gai_conf: Stamp,
}

/// Which state of a file was read.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stamp {
    /// None, or one so young that another may have the same time.
    #[default]
    Unknown,
    Absent,
    At(FileStamp),
}

/// How long a table is taken to be true without a look at its file.
const PERIOD: Duration = Duration::from_secs(1);
/// What is read of a file: block lists of a million hosts have 30 MB.
const HOSTS_LIMIT: usize = 64 << 20;
const FILE_LIMIT: usize = 1 << 20;
/// File systems may count time in steps of this.
const STAMP_STEP: Duration = Duration::from_secs(2);
/// Destinations whose source address is remembered: a bound for the memory, above any answer.
const MAX_SOURCES: usize = 1024;

impl Default for Tables {
    fn default() -> Self {
        Tables {
            files: SystemFiles::default(),
            next_check: Instant::ZERO,
            version: 0,
            told: Told {
                hosts: Arc::default(),
                resolv_conf: ResolvConf::default(),
                nsswitch: Nsswitch::default(),
                host_name: None,
                addresses: Vec::new(),
                interfaces: Interfaces::default(),
            },
            policy: Policy::default(),
            stamps: Stamps::default(),
            zoned: false,
            services: None,
            listed: None,
            sources: Sources::default(),
        }
    }
}

impl Tables {
    /// Other files from now on.
    pub(super) fn set_files(&mut self, files: SystemFiles) {
        self.files = files;
        self.stamps = Stamps::default();
        self.services = None;
        self.next_check = Instant::ZERO;
    }

    /// Reads what has changed, if the last look was a while ago.
    #[inline]
    pub(super) fn refresh(&mut self, driver: &mut dyn Driver, now: Instant) {
        if now >= self.next_check || self.version == 0 {
            self.check(driver, now);
        }
    }

    #[cold]
    fn check(&mut self, driver: &mut dyn Driver, now: Instant) {
        self.next_check = now + PERIOD;
        self.listed = None;
        self.sources.0.clear();
        let mut changed = self.version == 0;
        if let Some(text) = reread(driver, &self.files.hosts, HOSTS_LIMIT, &mut self.stamps.hosts) {
            self.told.hosts = Hosts::parse(&text).into();
            changed = true;
        }
        let nsswitch = &mut self.stamps.nsswitch;
        if let Some(text) = reread(driver, &self.files.nsswitch, FILE_LIMIT, nsswitch) {
            self.told.nsswitch = Nsswitch::parse(&text);
            changed = true;
        }
        let gai_conf = &mut self.stamps.gai_conf;
        if let Some(text) = reread(driver, &self.files.gai_conf, FILE_LIMIT, gai_conf) {
            self.policy = Policy::parse(&text);
        }
        let host_name = driver.host_name().ok();
        if host_name != self.told.host_name {
            self.told.host_name = host_name;
            // The search list may be made of it.
            self.stamps.resolv_conf = Stamp::Unknown;
            changed = true;
        }
        if self.zoned {
            // The interface may have come, or come back with another number.
            let before = self.told.interfaces.clone();
            self.list_interfaces(driver);
            if self.told.interfaces != before {
                self.stamps.resolv_conf = Stamp::Unknown;
            }
        }
        let resolv_conf = &mut self.stamps.resolv_conf;
        if let Some(text) = reread(driver, &self.files.resolv_conf, FILE_LIMIT, resolv_conf) {
            let environment = Environment {
                localdomain: driver.variable("LOCALDOMAIN"),
                res_options: driver.variable("RES_OPTIONS"),
                hostname: self.told.host_name.clone(),
            };
            self.zoned = text.contains('%');
            if self.zoned {
                self.list_interfaces(driver);
            }
            let interfaces = &self.told.interfaces;
            self.told.resolv_conf = ResolvConf::parse(&text, &environment, interfaces);
            changed = true;
        }
        let modules = self.told.nsswitch.modules();
        let own = modules.into_iter().any(|m| *m == tepal_names::config::Module::MyHostname);
        if own {
            let before = self.told.addresses.clone();
            self.list_interfaces(driver);
            changed |= self.told.addresses != before;
        }
        self.version += u64::from(changed);
    }

    /// The table of services, and the interfaces as they are known.
    pub(super) fn services(&mut self, driver: &mut dyn Driver) -> (&Services, &Interfaces) {
        if self.services.is_none() {
            // Read once: ports of services do not move while a program runs.
            let text = driver.read_file(&self.files.services, FILE_LIMIT).ok();
            let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            self.services = text.map(|text| Services::parse(&text));
        }
        // Without a file: the common ones.
        (self.services.get_or_insert_default(), &self.told.interfaces)
    }

    /// The interfaces of this machine. An error of the kernel means none.
    pub(super) fn list_interfaces(&mut self, driver: &mut dyn Driver) -> &[NetworkInterface] {
        if self.listed.is_none() {
            let listed = driver.interfaces().unwrap_or_default();
            let named = listed.iter().map(|interface| (&interface.name, interface.index));
            self.told.interfaces = Interfaces::new(named);
            self.told.addresses = listed.iter().flat_map(own_addresses).collect();
            self.listed = Some(listed);
        }
        self.listed.as_deref().unwrap_or_default()
    }

    /// Whether the machine has IPv4 and IPv6 addresses beyond `127.0.0.1` and `::1`.
    pub(super) fn families(&mut self, driver: &mut dyn Driver) -> (bool, bool) {
        let listed = self.list_interfaces(driver);
        let mut addresses = listed.iter().flat_map(|interface| &interface.addresses);
        let v4 = addresses.clone().any(|ip| ip.is_ipv4() && !ip.is_loopback());
        let v6 = addresses.any(|ip| ip.is_ipv6() && !ip.is_loopback());
        (v4, v6)
    }
}

/// The addresses that the kernel would send from, by destination.
#[derive(Default)]
pub(super) struct Sources(HashMap<HostAddr, Option<Source>>);

impl Sources {
    /// Asks the kernel by connecting a UDP socket, which sends nothing, unless it is known.
    pub(super) fn find(
        &mut self,
        driver: &mut dyn Driver,
        destination: HostAddr,
    ) -> Option<Source> {
        if let Some(known) = self.0.get(&destination) {
            return *known;
        }
        let found = probe(driver, destination);
        if self.0.len() >= MAX_SOURCES {
            self.0.clear();
        }
        self.0.insert(destination, found);
        found
    }
}

// Loopback addresses are nobody's own: nss-myhostname leaves them out.
fn own_addresses(interface: &NetworkInterface) -> Vec<HostAddr> {
    let addresses = interface.addresses.iter().filter(|ip| !ip.is_loopback());
    addresses
        .map(|&ip| {
            let link_local = matches!(ip, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
            HostAddr { ip, scope_id: if link_local { interface.index } else { 0 } }
        })
        .collect()
}

/// The text of a file if it is another than the one read before; empty if there is none.
fn reread(driver: &mut dyn Driver, path: &Path, limit: usize, stamp: &mut Stamp) -> Option<String> {
    let now = match driver.file_changed(path) {
        Ok(state) => Stamp::At(state),
        Err(_) => Stamp::Absent,
    };
    if now == *stamp {
        return None;
    }
    *stamp = now;
    let Stamp::At(state) = now else { return Some(String::new()) };
    let Ok(mut bytes) = driver.read_file(path, limit) else {
        // It cannot be read: that may pass.
        *stamp = Stamp::Unknown;
        return Some(String::new());
    };
    if bytes.len() >= limit {
        // The last line is cut.
        bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0));
    }
    // A write of the same length in the same step of the file system's clock would go unseen.
    let young = |time| driver.wall().duration_since(time).is_ok_and(|age| age < STAMP_STEP);
    if [state.modified, state.changed].into_iter().any(young) {
        *stamp = Stamp::Unknown;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn probe(driver: &mut dyn Driver, destination: HostAddr) -> Option<Source> {
    // The port does not matter; zero is refused by some systems.
    let peer: SocketAddr = destination.with_port(9);
    let domain = if peer.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
    let socket = driver.open(domain, Kind::Datagram).ok()?;
    let connected = driver.connect(socket, &Address::Ip(peer));
    let local = connected.and_then(|_| driver.local_address(socket));
    // Nothing was sent, so nothing can be lost.
    let _ = driver.close(socket);
    local.ok()?.as_ip().map(|local| Source::from(local.ip()))
}
