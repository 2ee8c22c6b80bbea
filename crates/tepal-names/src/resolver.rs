//! The resolver: questions and packets in, packets and answers out.
//!
//! ```text
//!   lookup_* ──> Lookup ──asks──> Query ──sends──> Exchange ──> poll_transmit
//!                (modules,        (servers,        (one socket,
//!                 search list)     attempts)        one id)
//!   poll_finished <── Lookup <── cache <── Query <── Exchange <── handle_datagram,
//!                                                                 handle_stream, handle_fault
//! ```
//!
//! A *lookup* is what a caller asked; it walks nsswitch.conf's modules and the search list. A
//! *query* is one name and type; equal ones are joined. An *exchange* is one socket with one
//! query on it; at most [`Settings::max_sockets`] exist, further queries wait for a place.
//!
//! What an exchange receives is judged by `message.rs`: a packet that is no answer is dropped and
//! the query goes on waiting, so that a stranger's packet can never end it. Three such packets
//! move the query to TCP, where a stranger cannot join in.

mod answer;
mod lookup;
mod query;
mod settings;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tepal_base::{Instant, Key, Slab};

use crate::cache::Cache;
use crate::config::{Hosts, Nsswitch, ResolvConf};
use crate::error::{LookupError, ServerReport, SocketFault};
use crate::random::Random;
use crate::record::Record;
use crate::{DnsName, Family, HostAddr, HostName, Interfaces, RecordType};
pub use answer::{Answer, HostAnswer, NamesAnswer, Origin, RecordsAnswer, Started};
use lookup::Lookup;
use query::{Exchange, Query, Server};
pub use settings::{MAX_NEGATIVE_TTL, MAX_TTL, Settings};

/// Names a lookup that is under way. Worth nothing once it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LookupId(u64);

/// Names a socket that the resolver asked for. Worth nothing once it was told to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExchangeId(u64);

impl ExchangeId {
    /// The id as one word, for places that keep only a number.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The id of a word. Any word is safe: one that was no id names nothing.
    pub fn from_bits(bits: u64) -> ExchangeId {
        ExchangeId(bits)
    }
}

impl LookupId {
    /// The id as one word, for places that keep only a number.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The id of a word. Any word is safe: one that was no id names nothing.
    pub fn from_bits(bits: u64) -> LookupId {
        LookupId(bits)
    }
}

/// What the caller is to do with sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// Open a fresh UDP socket, connect it to the server, send these bytes as one datagram, and
    /// hand in whatever is received on it. The kernel chooses a random port.
    Datagram {
        /// The socket's name from now on.
        exchange: ExchangeId,
        /// Where to connect to.
        server: SocketAddr,
        /// The datagram.
        message: Vec<u8>,
    },
    /// Open a TCP connection to the server, write these bytes (the length is in front already),
    /// and hand in whatever is read.
    Stream {
        /// The socket's name from now on.
        exchange: ExchangeId,
        /// Where to connect to.
        server: SocketAddr,
        /// The bytes to write.
        message: Vec<u8>,
    },
    /// Close this socket. Nothing need be said about it any more.
    Close {
        /// The socket.
        exchange: ExchangeId,
    },
}

/// A resolver without I/O; see the [module](self) for its parts.
///
/// Four families of calls:
/// * `set_*`: what the system's files say, whenever the caller read them;
/// * `lookup_*`: questions. Each ends in exactly one answer or error, by its deadline, unless it
///   is cancelled;
/// * `handle_*`: what happened to a socket or to time. `now` never goes backward;
/// * `poll_*`: what is wanted. After each call of the other families, [`poll_transmit`],
///   [`poll_early`] and [`poll_finished`] are called until they give `None`, then [`poll_timeout`] once.
///
/// [`poll_transmit`]: Resolver::poll_transmit
/// [`poll_early`]: Resolver::poll_early
/// [`poll_finished`]: Resolver::poll_finished
/// [`poll_timeout`]: Resolver::poll_timeout
///
/// ```
/// use std::time::Duration;
/// use tepal_base::Instant;
/// use tepal_names::config::Hosts;
/// use tepal_names::resolver::{Resolver, Settings, Started, Transmit};
/// use tepal_names::Family;
///
/// let seed = [7; 32]; // in earnest: 32 bytes from the kernel
/// let mut resolver = Resolver::new(Settings::default(), seed);
/// resolver.set_hosts(Hosts::parse("192.0.2.1 printer\n"));
///
/// let now = Instant::ZERO;
/// let deadline = now + Duration::from_secs(15);
/// let Started::Finished(answer) = resolver.lookup_host("printer", Family::V4, deadline, now) else {
///     unreachable!("the hosts file has it");
/// };
/// assert_eq!(answer?.into_host().unwrap().addresses[0].to_string(), "192.0.2.1");
///
/// // What no file has goes to the servers: one socket for A, one for AAAA.
/// let started = resolver.lookup_host("example.com", Family::Unspecified, deadline, now);
/// assert!(matches!(started, Started::Pending(_)));
/// assert!(matches!(resolver.poll_transmit(), Some(Transmit::Datagram { .. })));
/// assert!(matches!(resolver.poll_transmit(), Some(Transmit::Datagram { .. })));
/// assert_eq!(resolver.poll_transmit(), None);
/// # Ok::<(), tepal_names::LookupError>(())
/// ```
pub struct Resolver {
    settings: Settings,
    conf: ResolvConf,
    servers: Arc<[SocketAddr]>,
    hosts: Arc<Hosts>,
    nsswitch: Arc<Nsswitch>,
    hostname: Option<HostName>,
    local_addresses: Vec<HostAddr>,
    interfaces: Interfaces,

    random: Random,
    cache: Cache<Arc<Known>>,
    server_states: HashMap<SocketAddr, Server>,
    // Counts changes of the network: what was asked before one is neither joined nor kept after it.
    network: u64,
    // How many queries were begun: where `rotate` begins.
    rotation: usize,

    // `None` while a lookup is being driven.
    lookups: Slab<Option<Box<Lookup>>>,
    queries: Slab<Query>,
    exchanges: Slab<Exchange>,
    by_question: HashMap<Box<[u8]>, Key<Query>>,
    // Queries that wait for a socket, oldest first; dead keys are skipped.
    waiting: VecDeque<Key<Query>>,
    // Exchanges whose turn is over and that still listen, oldest first; the first to be closed
    // when a socket is needed. Dead keys are skipped.
    stale: VecDeque<Key<Exchange>>,

    timers: BTreeSet<(Instant, Timer)>,
    transmits: VecDeque<Queued>,
    completions: VecDeque<Completion>,
    early: VecDeque<(LookupId, HostAnswer)>,
    finished: VecDeque<(LookupId, Result<Answer, LookupError>)>,
}

/// A cached answer to one question.
#[derive(Debug)]
enum Known {
    Records { canonical: DnsName, chain: Vec<Record>, records: Vec<Record>, authenticated: bool },
    Alias { chain: Vec<Record>, target: DnsName },
    NoData,
    NoName,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Lookup(u64),
    Exchange(u64),
}

enum Queued {
    Open { exchange: Key<Exchange>, message: Vec<u8> },
    Close(Key<Exchange>),
}

/// A query ended and one of its lookups is to hear it.
struct Completion {
    lookup: Key<Option<Box<Lookup>>>,
    slot: usize,
    result: QueryResult,
}

type QueryResult = Result<(Arc<Known>, Option<Instant>), Arc<[ServerReport]>>;

impl Resolver {
    /// A resolver that knows no files yet: servers and search list of an empty resolv.conf, no
    /// hosts, `files dns`.
    ///
    /// `seed` must come from the kernel's generator and be used for nothing else: ids, case
    /// patterns and cookies are made of it.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Resolver {
        let cache = Cache::new(settings.cache_size);
        let mut resolver = Resolver {
            settings,
            conf: ResolvConf::default(),
            servers: Arc::new([]),
            hosts: Arc::default(),
            nsswitch: Arc::default(),
            hostname: None,
            local_addresses: Vec::new(),
            interfaces: Interfaces::default(),
            random: Random::new(seed),
            cache,
            server_states: HashMap::new(),
            network: 0,
            rotation: 0,
            lookups: Slab::new(),
            queries: Slab::new(),
            exchanges: Slab::new(),
            by_question: HashMap::new(),
            waiting: VecDeque::new(),
            stale: VecDeque::new(),
            timers: BTreeSet::new(),
            transmits: VecDeque::new(),
            completions: VecDeque::new(),
            early: VecDeque::new(),
            finished: VecDeque::new(),
        };
        resolver.set_resolv_conf(ResolvConf::default());
        resolver
    }

    /// Takes what resolv.conf says now. If the servers changed, the cache and what was learnt of
    /// servers are dropped. Lookups under way go on with the old ones, and their answers are theirs
    /// alone: none is kept, and no later lookup waits for one.
    pub fn set_resolv_conf(&mut self, mut conf: ResolvConf) {
        let settings = &self.settings;
        if let Some(servers) = settings.servers.as_ref().filter(|servers| !servers.is_empty()) {
            conf.servers.clone_from(servers);
        }
        if let Some(search) = &settings.search {
            conf.search.clone_from(search);
        }
        conf.ndots = settings.ndots.unwrap_or(conf.ndots);
        conf.timeout = settings.timeout.unwrap_or(conf.timeout).max(Duration::from_millis(1));
        conf.attempts = settings.attempts.unwrap_or(conf.attempts).max(1);
        if conf.servers[..] != self.servers[..] {
            self.servers = conf.servers.as_slice().into();
            self.clear_cache();
        }
        self.conf = conf;
    }

    /// Takes what the hosts file says now; several resolvers may share it.
    pub fn set_hosts(&mut self, hosts: impl Into<Arc<Hosts>>) {
        self.hosts = hosts.into();
    }

    /// Takes what nsswitch.conf says now. Lookups under way go on as the file was when they began.
    pub fn set_nsswitch(&mut self, nsswitch: impl Into<Arc<Nsswitch>>) {
        self.nsswitch = nsswitch.into();
    }

    /// Takes the machine's own name and addresses, for the module `myhostname`. Without addresses
    /// the name means `127.0.0.2` and `::1`, as nss-myhostname(8) has it.
    pub fn set_hostname(&mut self, name: Option<&str>, addresses: Vec<HostAddr>) {
        self.hostname = name.and_then(|name| name.parse().ok());
        self.local_addresses = addresses;
    }

    /// Takes the machine's interfaces, for zones of IPv6 literals.
    pub fn set_interfaces(&mut self, interfaces: Interfaces) {
        self.interfaces = interfaces;
    }

    /// Forgets every answer and everything learnt about servers, as after a change of network.
    ///
    /// Lookups under way end with what they are told; later ones ask anew.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
        self.server_states.clear();
        self.by_question.clear();
        self.network += 1;
    }

    /// Asks for the addresses of a host, written as a name or as an address.
    ///
    /// Ends with [`Answer::Host`] by `deadline`. Literals and names in the hosts file cost no
    /// packet; neither does an answer that is in the cache.
    pub fn lookup_host(
        &mut self,
        host: &str,
        family: Family,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        self.start_host(host, family, deadline, now)
    }

    /// Asks for the names of an address. Ends with [`Answer::Names`] by `deadline`.
    ///
    /// A name that could not be a host's ([`DnsName::is_host_like`]) is left out.
    pub fn lookup_address(&mut self, address: IpAddr, deadline: Instant, now: Instant) -> Started {
        self.start_address(address, deadline, now)
    }

    /// Asks the name servers for records of any type. Ends with [`Answer::Records`] by
    /// `deadline`. The search list counts; the hosts file and nsswitch.conf do not.
    pub fn lookup_records(
        &mut self,
        name: &str,
        record_type: RecordType,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        self.start_records(name, record_type, deadline, now)
    }

    /// Says of a lookup that has just begun that it is for a race of connects, which need not wait
    /// for all addresses (RFC 8305, section 3): IPv6 addresses are told by
    /// [`poll_early`](Resolver::poll_early) as soon as they are there, IPv4 ones 50 ms later. The
    /// lookup goes on, and ends as others do: the second family has one more time-out of a server,
    /// 5 s by default.
    pub fn hurry(&mut self, id: LookupId, now: Instant) {
        self.hurry_lookup(Key::from_bits(id.0), now);
        self.settle(now);
    }

    /// Ends a lookup without an answer. Sockets that no other lookup needs are closed.
    pub fn cancel(&mut self, id: LookupId, now: Instant) {
        let key = Key::from_bits(id.0);
        if let Some(Some(lookup)) = self.lookups.remove(key) {
            self.detach(key, &lookup);
        }
        self.finished.retain(|(finished, _)| *finished != id);
        self.early.retain(|(early, _)| *early != id);
        self.settle(now);
    }

    /// A datagram came on a socket.
    pub fn handle_datagram(&mut self, exchange: ExchangeId, message: &[u8], now: Instant) {
        self.receive_datagram(Key::from_bits(exchange.0), message, now);
        self.settle(now);
    }

    /// Bytes were read from a stream; any cut is fine.
    pub fn handle_stream(&mut self, exchange: ExchangeId, bytes: &[u8], now: Instant) {
        self.receive_stream(Key::from_bits(exchange.0), bytes, now);
        self.settle(now);
    }

    /// A socket failed, or could not be opened, or its stream ended ([`SocketFault::Closed`]). It is
    /// closed already or will be by [`Transmit::Close`].
    pub fn handle_fault(&mut self, exchange: ExchangeId, fault: SocketFault, now: Instant) {
        self.receive_fault(Key::from_bits(exchange.0), fault, now);
        self.settle(now);
    }

    /// Time went by. To be called at [`poll_timeout`](Resolver::poll_timeout)'s instant; a call
    /// before it changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Exchange(bits) => self.exchange_timed_out(Key::from_bits(bits), now),
                Timer::Lookup(bits) => self.lookup_timed_out(Key::from_bits(bits), now),
            }
        }
        self.settle(now);
    }

    /// The next thing to do with a socket, until `None`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            match self.transmits.pop_front()? {
                Queued::Open { exchange, message } => {
                    // It may have been closed before anybody heard of it.
                    let Some(opened) = self.exchanges.get_mut(exchange) else { continue };
                    opened.announced = true;
                    let (id, server) = (ExchangeId(exchange.to_bits()), opened.server);
                    return Some(match opened.over {
                        crate::Over::Udp => Transmit::Datagram { exchange: id, server, message },
                        crate::Over::Tcp => Transmit::Stream { exchange: id, server, message },
                    });
                }
                Queued::Close(exchange) => {
                    return Some(Transmit::Close { exchange: ExchangeId(exchange.to_bits()) });
                }
            }
        }
    }

    /// The addresses of one family, of a lookup in a [hurry](Resolver::hurry) that still waits for
    /// the other, until `None`. Given once per lookup at most; the answer has them too.
    pub fn poll_early(&mut self) -> Option<(LookupId, HostAnswer)> {
        self.early.pop_front()
    }

    /// The next lookup that ended, until `None`.
    pub fn poll_finished(&mut self) -> Option<(LookupId, Result<Answer, LookupError>)> {
        self.finished.pop_front()
    }

    /// When [`handle_timeout`](Resolver::handle_timeout) is to be called; `None` if nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many sockets are in use.
    pub fn socket_count(&self) -> usize {
        self.exchanges.len()
    }

    /// How many lookups are under way.
    pub fn lookup_count(&self) -> usize {
        self.lookups.len()
    }

    /// How many answers are kept.
    pub fn cached_count(&self) -> usize {
        self.cache.len()
    }

    /// Hands results of queries to their lookups, which may begin new queries, until all is quiet.
    fn settle(&mut self, now: Instant) {
        while let Some(completion) = self.completions.pop_front() {
            self.query_completed(completion, now);
        }
        self.send_waiting(now);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.servers).finish_non_exhaustive()
    }
}
