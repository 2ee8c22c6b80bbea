use std::net::SocketAddr;

use super::{AddrInfoQuery, LookupKey, NameInfoFlags};
use crate::engine::{Engine, Host};

/// A resolver that is not the loop's own: another library's, a test's, the C library's in an
/// executor of the caller's.
///
/// It is given to [`Engine::resolver_add_foreign`]. Literals never reach it. Each question is
/// answered once, at once or later, by [`Engine::answer_addrinfo`] or
/// [`Engine::answer_nameinfo`]; an answer to a question that was cancelled changes nothing.
pub trait ForeignResolver<H: Host>: 'static {
    /// Asks for the addresses of a host, in the order in which they are to be tried.
    fn getaddrinfo(&self, engine: &Engine<H>, lookup: LookupKey<H>, query: &AddrInfoQuery<'_>);

    /// Asks for the names of an address and a port.
    fn getnameinfo(
        &self,
        engine: &Engine<H>,
        lookup: LookupKey<H>,
        address: SocketAddr,
        flags: NameInfoFlags,
    );

    /// Nobody waits for this question any more.
    fn cancel(&self, _engine: &Engine<H>, _lookup: LookupKey<H>) {}
}
