mod resolving;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::host::{Completion, RustEngine, RustHost};
use super::system::{AwayReply, System};
use super::{Loop, Pending, Remote};
use crate::engine::{Outcome, WeakEngine};
use crate::names::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Asked, Family, ForeignResolver, Hints, HostAnswer,
    LookupKey, NameInfo, NameInfoFlags, RecordType, RecordsAnswer, ResolveError, ResolverKey,
    Settings, SocketType, SystemFiles,
};

pub use resolving::Resolving;
use resolving::State;

/// A resolver of one loop. Cloning gives another handle to the same one; when the last is dropped,
/// its questions end with an error.
///
/// Without one, a loop resolves by the system's files. Another is made by [`Loop::resolver`] (own
/// servers, own search list, no hosts file), by [`Loop::system_resolver`] or
/// [`Loop::foreign_resolver`] (something else altogether), and given to [`Loop::set_resolver`] or
/// to a [`Target`](crate::Target).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use tepal::{EventLoop, Target, names::Settings};
///
/// let event_loop = EventLoop::new()?;
/// let mut settings = Settings::default();
/// settings.hosts = false; // servers only
/// let resolver = event_loop.resolver(settings);
/// let target = Target::host("www.example", 80).resolver(&resolver);
/// event_loop.set_resolver(Some(&resolver)); // for whatever names no other
/// # let _ = target;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Resolver(Rc<Owned>);

struct Owned {
    engine: WeakEngine<RustHost>,
    key: ResolverKey<RustHost>,
}

/// A resolver of the caller's: another library's, a test's, the C library's.
///
/// It is given to [`Loop::foreign_resolver`]. IP literals never reach it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use tepal::names::{AddrInfo, AddrInfoError, AddrInfoQuery, ResolveError};
/// use tepal::{EventLoop, Loop, Reply, Resolve};
///
/// /// Knows nobody.
/// struct Offline;
///
/// impl Resolve for Offline {
///     fn getaddrinfo(&self, _: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>) {
///         let text = format!("{:?} is not asked for: no network", query.host);
///         reply.send(Err(ResolveError::foreign(AddrInfoError::Again, text)));
///     }
/// }
///
/// let event_loop = EventLoop::new()?;
/// let offline = event_loop.foreign_resolver(Offline);
/// event_loop.set_resolver(Some(&offline));
/// let outcome = event_loop.run_until_complete(event_loop.resolve("www.example", 80))?;
/// assert!(outcome.expect_err("nobody is known").is_temporary());
/// # Ok(())
/// # }
/// ```
pub trait Resolve: 'static {
    /// Asks for the addresses of a host, in the order in which they are to be tried. The answer
    /// goes to `reply`, now or later; when that is dropped unused, the question fails.
    fn getaddrinfo(&self, lp: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>);

    /// Asks for the names of an address and a port. By default there are none.
    fn getnameinfo(
        &self,
        lp: &Loop,
        address: SocketAddr,
        flags: NameInfoFlags,
        reply: Reply<NameInfo>,
    ) {
        let _ = (lp, address, flags);
        reply.send(Err(AddrInfoError::NoName.into()));
    }
}

/// Where the answer to a question goes.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use tepal::names::{AddrInfo, AddrInfoError, AddrInfoQuery, ResolveError};
/// use tepal::{EventLoop, Loop, Reply, Resolve};
///
/// /// Knows nobody.
/// struct Offline;
///
/// impl Resolve for Offline {
///     fn getaddrinfo(&self, _: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>) {
///         let text = format!("{:?} is not asked for: no network", query.host);
///         reply.send(Err(ResolveError::foreign(AddrInfoError::Again, text)));
///     }
/// }
///
/// let event_loop = EventLoop::new()?;
/// let offline = event_loop.foreign_resolver(Offline);
/// event_loop.set_resolver(Some(&offline));
/// let outcome = event_loop.run_until_complete(event_loop.resolve("www.example", 80))?;
/// assert!(outcome.expect_err("nobody is known").is_temporary());
/// # Ok(())
/// # }
/// ```
pub struct Reply<T> {
    lp: Loop,
    key: Option<LookupKey<RustHost>>,
    answer: Answer<T>,
}

pub(super) type Answer<T> = fn(&RustEngine, LookupKey<RustHost>, Result<T, ResolveError>) -> bool;

struct Foreign<R>(R);

impl Loop {
    /// Asks for the addresses of a host, with the meaning that getaddrinfo(3) has, by the loop's
    /// own resolver: no thread is started, and a literal, a hosts entry or a cached answer is
    /// there at once.
    ///
    /// ```
    /// use tepal::EventLoop;
    /// use tepal::names::AddrInfoQuery;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let event_loop = EventLoop::new()?;
    /// let query =
    ///     AddrInfoQuery { host: Some("127.1"), service: Some("443"), ..AddrInfoQuery::default() };
    /// let infos = event_loop.run_until_complete(event_loop.getaddrinfo(&query))??;
    /// assert_eq!(infos[0].address, "127.0.0.1:443".parse()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn getaddrinfo(&self, query: &AddrInfoQuery<'_>) -> Resolving<Vec<AddrInfo>> {
        self.getaddrinfo_with(None, query)
    }

    /// As [`getaddrinfo`](Loop::getaddrinfo), by this resolver. One of another loop answers no
    /// question here: each fails.
    pub fn getaddrinfo_with(
        &self,
        resolver: Option<&Resolver>,
        query: &AddrInfoQuery<'_>,
    ) -> Resolving<Vec<AddrInfo>> {
        let key = resolver.map(|resolver| resolver.key_in(self));
        self.ask(take_addrinfo, |completion| self.engine().getaddrinfo(key, query, completion))
    }

    /// Asks for the addresses of a host, each with this port, in the order in which to try them
    /// (RFC 6724).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let event_loop = tepal::EventLoop::new()?;
    /// for address in event_loop.run_until_complete(event_loop.resolve("example.org", 443))?? {
    ///     println!("{address}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn resolve(&self, host: &str, port: u16) -> Resolving<Vec<SocketAddr>> {
        let service = port.to_string();
        let query = AddrInfoQuery {
            host: Some(host),
            service: Some(&service),
            hints: Hints { socket_type: SocketType::STREAM, ..Hints::default() },
            timeout: None,
        };
        let asked = self.getaddrinfo(&query);
        let addresses = |infos: Vec<AddrInfo>| infos.iter().map(|info| info.address).collect();
        let take: fn(Outcome) -> Result<Vec<SocketAddr>, ResolveError> = |outcome| {
            take_addrinfo(outcome).map(|infos| infos.iter().map(|info| info.address).collect())
        };
        let state = match asked.into_state() {
            State::Answered(result) => State::Answered(result.map(|r| r.map(addresses))),
            State::Waiting { lp, key, pending } => State::Waiting { lp, key, pending },
        };
        Resolving { state, take }
    }

    /// Asks for the name of an address and of its port's service, with the meaning that
    /// getnameinfo(3) has.
    pub fn getnameinfo(&self, address: SocketAddr, flags: NameInfoFlags) -> Resolving<NameInfo> {
        let take: fn(Outcome) -> Result<NameInfo, ResolveError> = |outcome| match outcome {
            Outcome::NameInfo(result) => result,
            _ => Err(AddrInfoError::Fail.into()),
        };
        self.ask(take, |completion| self.engine().getnameinfo(None, address, flags, completion))
    }

    /// Asks the name servers for records of any type. The search list counts, the hosts file does
    /// not.
    pub fn lookup_records(&self, name: &str, record_type: RecordType) -> Resolving<RecordsAnswer> {
        let take: fn(Outcome) -> Result<RecordsAnswer, ResolveError> = |outcome| match outcome {
            Outcome::Records(result) => result,
            _ => Err(AddrInfoError::Fail.into()),
        };
        self.ask(take, |completion| {
            self.engine().lookup_records(None, name, record_type, None, completion)
        })
    }

    /// Asks for the addresses of a host, in the order in which to try them, and for where they come
    /// from and until when they hold, by the loop's clock: for those who show or keep answers.
    ///
    /// If [`Resolving::is_answered`] says so at once, nobody had to be asked: the answer is the
    /// hosts file's, or, if its [`Origin`](crate::names::Origin) is a name server, the cache's.
    ///
    /// ```
    /// use tepal::names::{Family, Origin};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let event_loop = tepal::EventLoop::new()?;
    /// let asked = event_loop.lookup_host("192.0.2.1", Family::Unspecified);
    /// assert!(asked.is_answered());
    /// let answer = event_loop.run_until_complete(asked)??;
    /// assert_eq!((answer.origin, answer.expires), (Origin::Literal, None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn lookup_host(&self, host: &str, family: Family) -> Resolving<HostAnswer> {
        let take: fn(Outcome) -> Result<HostAnswer, ResolveError> = |outcome| match outcome {
            Outcome::Host(result) => result,
            _ => Err(AddrInfoError::Fail.into()),
        };
        self.ask(take, |completion| self.engine().lookup_host(None, host, family, None, completion))
    }

    /// A resolver with settings of its own; what they leave open is the system's files'.
    pub fn resolver(&self, settings: Settings) -> Resolver {
        Resolver::new(self, self.engine().resolver_add(settings))
    }

    /// A resolver that the caller implements.
    pub fn foreign_resolver(&self, resolver: impl Resolve) -> Resolver {
        Resolver::new(self, self.engine().resolver_add_foreign(Rc::new(Foreign(resolver))))
    }

    /// The C library's resolver, which blocks, on threads that the caller brings: each question
    /// becomes one call of `executor` with a job to run elsewhere. The only way to names that only
    /// another module of nsswitch.conf knows.
    ///
    /// ```
    /// let event_loop = tepal::EventLoop::new()?;
    /// let system = event_loop.system_resolver(|job| {
    ///     std::thread::spawn(job);
    /// });
    /// event_loop.set_resolver(Some(&system));
    /// let found = event_loop.run_until_complete(event_loop.resolve("localhost", 80))?;
    /// assert!(found.is_ok_and(|addresses| addresses[0].ip().is_loopback()));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn system_resolver(
        &self,
        executor: impl Fn(Box<dyn FnOnce() + Send>) + 'static,
    ) -> Resolver {
        self.foreign_resolver(System { executor, remote: self.remote() })
    }

    /// Says by which resolver the loop resolves where none is named; `None`: by the one made of
    /// the system's files.
    pub fn set_resolver(&self, resolver: Option<&Resolver>) {
        let default = self.engine().host().default_resolver.replace(resolver.cloned());
        self.engine().set_default_resolver(resolver.map(|resolver| resolver.key_in(self)));
        drop(default);
    }

    /// Reads the system's files elsewhere from now on: for tests, and for programs that bring
    /// their own.
    pub fn set_system_files(&self, files: SystemFiles) {
        self.engine().set_system_files(files);
    }

    fn ask<T: 'static>(
        &self,
        take: fn(Outcome) -> Result<T, ResolveError>,
        ask: impl FnOnce(&mut dyn FnMut() -> Completion) -> Asked<RustHost, Result<T, ResolveError>>,
    ) -> Resolving<T> {
        let mut made = None;
        let mut make = || -> Completion {
            let (pending, finish) = Pending::new();
            made = Some(pending);
            Box::new(move |_, outcome| finish(outcome))
        };
        let asked = ask(&mut make);
        let state = match (asked, made) {
            (Asked::Later(key), Some(pending)) => State::Waiting { lp: self.clone(), key, pending },
            (Asked::Now(result), _) => State::Answered(Some(result)),
            (Asked::Later(_), None) => State::Answered(Some(Err(AddrInfoError::Fail.into()))),
        };
        Resolving { state, take }
    }
}

fn take_addrinfo(outcome: Outcome) -> Result<Vec<AddrInfo>, ResolveError> {
    match outcome {
        Outcome::AddrInfo(result) => result,
        _ => Err(AddrInfoError::Fail.into()),
    }
}

impl Resolver {
    fn new(lp: &Loop, key: ResolverKey<RustHost>) -> Resolver {
        Resolver(Rc::new(Owned { engine: lp.engine().downgrade(), key }))
    }
}

impl Resolver {
    /// How many sockets it has open now: at most
    /// [`max_sockets`](tepal_names::resolver::Settings::max_sockets).
    pub fn socket_count(&self) -> usize {
        self.0.engine.upgrade().map_or(0, |engine| engine.resolver_sockets(self.0.key))
    }

    /// Its name in this loop, which names nothing if the resolver is another loop's.
    pub(super) fn key_in(&self, lp: &Loop) -> ResolverKey<RustHost> {
        let own = self.0.engine.upgrade().map(Loop);
        match own.is_some_and(|own| own.is(lp)) {
            true => self.0.key,
            false => ResolverKey::from_bits(0),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.resolver_remove(self.key);
        }
    }
}

impl<R: Resolve> ForeignResolver<RustHost> for Foreign<R> {
    fn getaddrinfo(
        &self,
        engine: &RustEngine,
        lookup: LookupKey<RustHost>,
        query: &AddrInfoQuery<'_>,
    ) {
        let lp = Loop::from_engine(engine);
        let answer = RustEngine::answer_addrinfo;
        self.0.getaddrinfo(&lp.clone(), query, Reply { lp, key: Some(lookup), answer });
    }

    fn getnameinfo(
        &self,
        engine: &RustEngine,
        lookup: LookupKey<RustHost>,
        address: SocketAddr,
        flags: NameInfoFlags,
    ) {
        let lp = Loop::from_engine(engine);
        let answer = RustEngine::answer_nameinfo;
        let reply = Reply { lp: lp.clone(), key: Some(lookup), answer };
        self.0.getnameinfo(&lp, address, flags, reply);
    }
}

impl<T: Send + 'static> Reply<T> {
    /// The right to answer from another thread.
    pub(super) fn away(mut self, remote: &Remote) -> AwayReply<T> {
        AwayReply { key: self.key.take(), answer: self.answer, remote: remote.clone() }
    }
}

impl<T> Reply<T> {
    /// Answers. Nothing happens if nobody waits any more.
    pub fn send(mut self, result: Result<T, ResolveError>) {
        if let Some(key) = self.key.take() {
            (self.answer)(self.lp.engine(), key, result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let text = "the resolver gave the question up";
            let error = ResolveError::foreign(AddrInfoError::Again, text);
            (self.answer)(self.lp.engine(), key, Err(error));
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").field(&self.0.key).finish()
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
