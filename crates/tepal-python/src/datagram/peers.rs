use std::collections::HashMap;
use std::net::SocketAddr;

use pyo3::prelude::*;
use tepal::Address;

use crate::address::to_python;
use crate::object::Ref;

/// How many peers are remembered. A server with more of them makes their addresses anew.
const MOST: usize = 256;

/// The Python addresses of peers that were heard of, so that a tuple is made once and not for each
/// datagram, and an answer to it needs no parsing.
#[derive(Default)]
pub(super) struct Peers {
    known: HashMap<SocketAddr, Ref>,
    // Whose address was given out last, and that object: most datagrams are answers to it.
    last: Option<(SocketAddr, Ref)>,
}

impl Peers {
    /// The object for an address, if it is remembered. It becomes the last one.
    pub(super) fn object<'py>(
        &mut self,
        py: Python<'py>,
        address: SocketAddr,
    ) -> Option<Bound<'py, PyAny>> {
        if let Some((last, object)) = &self.last
            && *last == address
        {
            return Some(object.bind(py).to_owned());
        }
        let object = self.known.get(&address)?.clone_ref(py);
        let found = object.bind(py).to_owned();
        self.last = Some((address, object));
        Some(found)
    }

    /// Remembers an object, and returns what it takes the place of, to be dropped with nothing
    /// borrowed.
    pub(super) fn remember(
        &mut self,
        py: Python<'_>,
        address: SocketAddr,
        object: &Bound<'_, PyAny>,
    ) -> (HashMap<SocketAddr, Ref>, Option<(SocketAddr, Ref)>) {
        let gone =
            if self.known.len() >= MOST { std::mem::take(&mut self.known) } else { HashMap::new() };
        let object = Ref::new(object.clone());
        self.known.insert(address, object.clone_ref(py));
        (gone, self.last.replace((address, object)))
    }

    /// The address of exactly this object, if it was given out last.
    pub(super) fn address_of(&self, object: &Bound<'_, PyAny>) -> Option<SocketAddr> {
        let (address, last) = self.last.as_ref()?;
        (last.as_ptr() == object.as_ptr()).then_some(*address)
    }
}

/// The Python object for the sender of a datagram.
pub(super) fn sender<'py>(
    py: Python<'py>,
    peers: &std::cell::RefCell<Peers>,
    peer: Option<&Address>,
) -> PyResult<Bound<'py, PyAny>> {
    match peer {
        Some(Address::Ip(address)) => {
            if let Some(object) = peers.borrow_mut().object(py, *address) {
                return Ok(object);
            }
            let object = to_python(py, &Address::Ip(*address))?;
            let gone = peers.borrow_mut().remember(py, *address, &object);
            drop(gone);
            Ok(object)
        }
        Some(other) => to_python(py, other),
        None => Ok(py.None().into_bound(py)),
    }
}
