//! Names, resolved by the loop itself: no thread, no blocking call.
//!
//! The logic is `tepal-names`', without I/O; here its packets get sockets, its deadline a timer
//! and its tables the system's files. What users meet are [`Loop::getaddrinfo`](crate::Loop) and
//! its siblings; authors of hosts find the engine's methods on [`Engine`](crate::engine::Engine).

mod ask;
mod error;
mod exchange;
mod foreign;
mod native;
mod records;
mod resolvers;
mod tables;
mod waiting;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tepal_base::{Key, Slab};
use tepal_names::addrinfo::{AddrInfoPlan, NameInfoPlan};
use tepal_names::resolver::LookupId;

use crate::engine::{Host, Outcome, StreamKey};

pub use error::{ResolveCause, ResolveError};
pub(crate) use exchange::Exchange;
pub use foreign::ForeignResolver;
pub use tables::SystemFiles;
pub use tepal_names::addrinfo::{
    AddrInfo, AddrInfoError, Flags, Hints, NameInfo, NameInfoFlags, SocketType,
};
pub use tepal_names::error::{LookupError, LookupErrorKind, ServerReport};
pub use tepal_names::record::{Record, RecordData, RecordType};
pub use tepal_names::resolver::{HostAnswer, Origin, RecordsAnswer, Settings};
pub use tepal_names::{Family, HostAddr, HostName};

use native::Native;
use tables::Tables;

/// A question of getaddrinfo.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use tepal::names::AddrInfoQuery;
///
/// let event_loop = tepal::EventLoop::new()?;
/// let query = AddrInfoQuery { host: Some("::1"), service: Some("http"), ..Default::default() };
/// let found = event_loop.run_until_complete(event_loop.getaddrinfo(&query))?.expect("a literal");
/// assert!(found.iter().all(|info| info.address == "[::1]:80".parse().unwrap()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct AddrInfoQuery<'a> {
    /// A name or a literal; `None`: this machine, or with
    /// [`PASSIVE`](tepal_names::addrinfo::Flags::PASSIVE) any of its addresses.
    pub host: Option<&'a str>,
    /// A service's name, or a port as digits.
    pub service: Option<&'a str>,
    /// What is wanted.
    pub hints: Hints,
    /// How long it may take; 30 seconds unless set.
    pub timeout: Option<Duration>,
}

/// What came of a question.
#[derive(Debug)]
pub enum Asked<H: Host, T> {
    /// It is answered already: a literal, a hosts entry, a cached answer, or an error.
    Now(T),
    /// [`Host::complete`] will be told.
    Later(LookupKey<H>),
}

/// The name of a resolver of an engine.
pub struct ResolverKey<H: Host>(Key<Entry<H>>);

/// The name of a question that is under way. Worth nothing once it is answered.
pub struct LookupKey<H: Host>(Key<Lookup<H>>);

/// What an engine keeps of names.
pub(crate) struct Names<H: Host> {
    resolvers: Slab<Entry<H>>,
    default: Option<ResolverKey<H>>,
    lookups: Slab<Lookup<H>>,
    tables: Tables,
}

/// A resolver of an engine.
enum Entry<H: Host> {
    Native(Box<Native<H>>),
    Foreign(Rc<dyn ForeignResolver<H>>),
}

struct Lookup<H: Host> {
    resolver: ResolverKey<H>,
    // The resolver's name for it; `None` if that is foreign.
    id: Option<LookupId>,
    plan: Plan,
    // The addresses of one family, for a race that may begin with them.
    early: Option<Vec<AddrInfo>>,
    waiter: Waiter<H>,
}

impl<H: Host> Lookup<H> {
    fn new(resolver: ResolverKey<H>, id: Option<LookupId>, plan: Plan) -> Lookup<H> {
        Lookup { resolver, id, plan, early: None, waiter: Waiter::Asking }
    }
}

enum Plan {
    AddrInfo(AddrInfoPlan),
    NameInfo(NameInfoPlan),
    Host,
    Records,
}

/// Who is to hear of it.
enum Waiter<H: Host> {
    /// Whoever is asking just now.
    Asking,
    /// It was answered while it was being asked.
    Answered(Box<Outcome>),
    Completion(H::Completion),
    /// An outbound stream, which takes the answer itself.
    Stream(StreamKey<H>),
}

/// How long a question may take that does not say so: what three servers get from the C library
/// (5 s each, twice).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

impl<H: Host> Names<H> {
    pub(crate) fn new() -> Names<H> {
        Names {
            resolvers: Slab::new(),
            default: None,
            lookups: Slab::new(),
            tables: Tables::default(),
        }
    }

    /// Who waits for answers.
    pub(crate) fn completions(&self) -> impl Iterator<Item = &H::Completion> {
        self.lookups.iter().filter_map(|(_, lookup)| match &lookup.waiter {
            Waiter::Completion(completion) => Some(completion),
            Waiter::Asking | Waiter::Answered(_) | Waiter::Stream(_) => None,
        })
    }

    /// Whether there is nothing to drop.
    pub(crate) fn is_empty(&self) -> bool {
        self.resolvers.is_empty() && self.lookups.is_empty()
    }
}

impl<H: Host> ResolverKey<H> {
    /// The key as one word, for hosts that keep only a number.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The key of a word. Any word is safe: one that was no key names nothing.
    pub fn from_bits(bits: u64) -> ResolverKey<H> {
        ResolverKey(Key::from_bits(bits))
    }
}

impl<H: Host> LookupKey<H> {
    /// The key as one word, for hosts that keep only a number.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The key of a word. Any word is safe: one that was no key names nothing.
    pub fn from_bits(bits: u64) -> LookupKey<H> {
        LookupKey(Key::from_bits(bits))
    }
}

impl<H: Host> Clone for ResolverKey<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H: Host> Copy for ResolverKey<H> {}
impl<H: Host> PartialEq for ResolverKey<H> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<H: Host> Eq for ResolverKey<H> {}
impl<H: Host> fmt::Debug for ResolverKey<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::fmt(&self.0, f)
    }
}

impl<H: Host> Clone for LookupKey<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H: Host> Copy for LookupKey<H> {}
impl<H: Host> PartialEq for LookupKey<H> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<H: Host> Eq for LookupKey<H> {}
impl<H: Host> fmt::Debug for LookupKey<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::fmt(&self.0, f)
    }
}
