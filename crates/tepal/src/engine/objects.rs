use tepal_base::{Key, Slab};

use super::Host;
use super::listener::Listener;
use super::operations::ChildWatch;
use super::watchers::Watch;
use crate::names::Exchange;
use crate::transport::{Datagram, Stream};

/// The name of anything that the driver reports events for; its bits are the driver's token.
pub type ObjectKey<H> = Key<Object<H>>;

/// The name of a stream transport.
pub type StreamKey<H> = ObjectKey<H>;

/// What a key names. Boxed, so that the slab's places stay small.
#[allow(private_interfaces, reason = "named in keys only; its inside is the engine's")]
pub enum Object<H: Host> {
    /// A connection.
    Stream(Box<Stream<H>>),
    /// A datagram endpoint.
    Datagram(Box<Datagram<H>>),
    /// A listening socket.
    Listener(Box<Listener<H>>),
    /// A user's descriptor.
    Watch(Box<Watch<H>>),
    /// A child process.
    Child(Box<ChildWatch<H>>),
    /// A query of a resolver.
    Exchange(Box<Exchange<H>>),
}

impl<H: Host> std::fmt::Debug for Object<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Object::Stream(_) => "Stream",
            Object::Datagram(_) => "Datagram",
            Object::Listener(_) => "Listener",
            Object::Watch(_) => "Watch",
            Object::Child(_) => "Child",
            Object::Exchange(_) => "Exchange",
        })
    }
}

/// The stream of a key.
pub(crate) fn stream<H: Host>(
    objects: &mut Slab<Object<H>>,
    key: StreamKey<H>,
) -> Option<&mut Stream<H>> {
    match objects.get_mut(key) {
        Some(Object::Stream(stream)) => Some(stream),
        _ => None,
    }
}

/// The datagram endpoint of a key.
pub(crate) fn datagram<H: Host>(
    objects: &mut Slab<Object<H>>,
    key: ObjectKey<H>,
) -> Option<&mut Datagram<H>> {
    match objects.get_mut(key) {
        Some(Object::Datagram(endpoint)) => Some(endpoint),
        _ => None,
    }
}
