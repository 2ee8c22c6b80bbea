//! From specs to layers: at the beginning of an attempt, and for a stream that was plain.

use std::time::Duration;

use tepal_driver::Descriptor;
use tepal_layers::{Chain, Error, Host as Name, Keepsakes, Limits, Place, Stack, Turn};

use super::{Feed, Layers};
use crate::engine::{Engine, Flow, Host, StreamKey, stream};
use crate::transport::Closed;
use crate::transport::stream::{Phase, Stream};

impl<H: Host> Stream<H> {
    /// Whether what was asked for waits until all layers are ready. On an outbound stream it does:
    /// if this attempt fails, the next one sends it.
    pub(super) fn holds_inbox(&self) -> bool {
        self.phase == Phase::Handshaking && self.outbound.is_some()
    }

    pub(in crate::transport) fn chain_limits(&self) -> Limits {
        let handshake = self.handshake_timeout.get().unwrap_or(Duration::MAX);
        Limits { input: self.read_limit, handshake, ..Limits::default() }
    }
}

impl<H: Host> Engine<H> {
    /// The wire of a layered stream stands: builds its layers and begins their handshakes.
    pub(in crate::transport) fn stream_handshake(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let (socket, limits) = match stream(&mut core.objects.borrow_mut(), key) {
            Some(stream) => (stream.descriptor, stream.chain_limits()),
            None => return Flow::Continue(()),
        };
        let Some(built) = self.build_chain(key, socket, limits) else {
            return Flow::Continue(());
        };
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if stream.phase == Phase::Lost {
            return Flow::Continue(());
        }
        match built {
            Ok(chain) => {
                stream.phase = Phase::Handshaking;
                let layers = stream.layers.get_or_insert_with(|| Box::new(Layers::new()));
                layers.look_at_all(&chain);
                layers.chain = Some(Box::new(chain));
                drop(objects);
            }
            Err(error) => {
                drop(objects);
                return self.fail_stream(key, Closed::of_layer(error, true), true);
            }
        }
        self.stream_pump(key, Feed::Nothing)
    }

    /// Builds the layers that a stream is to have, for a socket of its. `None`: it is gone, or has
    /// none.
    pub(in crate::transport) fn build_chain(
        &self,
        key: StreamKey<H>,
        socket: Option<Descriptor>,
        limits: Limits,
    ) -> Option<Result<Chain, Error>> {
        let core = self.core();
        let (stack, mut keepsakes) = {
            let mut objects = core.objects.borrow_mut();
            let recipe = stream(&mut objects, key)?.recipe.as_mut()?;
            (recipe.stack.clone(), std::mem::take(&mut recipe.keepsakes))
        };
        // Specs may be user code.
        let side = match stream(&mut core.objects.borrow_mut(), key) {
            Some(stream) => stream.side(),
            None => return None,
        };
        let wanted = stack.specs().iter().any(|spec| spec.wants_addresses(side));
        let place = self.place_at(key, socket.filter(|_| wanted));
        let turn = Turn::new(self.now(), &core.workspace);
        let built = Chain::with(&stack, &place, limits, &mut keepsakes, turn);
        let mut objects = core.objects.borrow_mut();
        let recipe = stream(&mut objects, key)?.recipe.as_mut()?;
        recipe.keepsakes.merge(keepsakes);
        Some(built)
    }

    // Where the layers of a stream stand.
    pub(super) fn place_of(&self, key: StreamKey<H>) -> Place {
        let socket = stream(&mut self.core().objects.borrow_mut(), key).and_then(|s| s.descriptor);
        self.place_at(key, socket)
    }

    fn place_at(&self, key: StreamKey<H>, socket: Option<Descriptor>) -> Place {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            return Place::new(tepal_layers::Side::Client);
        };
        let mut place = Place::new(stream.side());
        if let Some(socket) = socket {
            let mut driver = core.driver.borrow_mut();
            // A Unix socket has none, and a peer may be gone: layers know that they may not know.
            place.peer = driver.peer_address(socket).ok().and_then(|address| address.as_ip());
            place.local = driver.local_address(socket).ok().and_then(|address| address.as_ip());
        }
        let named = stream.recipe.as_ref().and_then(|recipe| recipe.host.clone());
        place.host = named.or_else(|| place.peer.map(|peer| Name::Ip(peer.ip())));
        place
    }

    /// Builds the empty chain of a stream that was plain until now, with what the protocol left
    /// unread.
    pub(super) fn adopt_chain(&self, key: StreamKey<H>) -> Result<(), Error> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let wanted = |s: &&mut Stream<H>| {
            s.is_open() && s.layers.as_ref().is_some_and(|l| l.chain.is_none())
        };
        let Some(stream) = stream(&mut objects, key).filter(wanted) else { return Ok(()) };
        let turn = Turn::new(self.now(), &core.workspace);
        // Layers that are put in are built before, at the push.
        let place = Place::new(stream.side());
        let keepsakes = &mut Keepsakes::default();
        let mut chain = Chain::with(&Stack::new(), &place, stream.chain_limits(), keepsakes, turn)?;
        let mut unread = std::mem::take(&mut stream.unread);
        // No layer: nothing of a user's runs in here.
        chain.receive(turn, &mut unread);
        if stream.peer_eof {
            chain.receive_eof(turn);
        }
        stream.offer = false;
        if let Some(layers) = &mut stream.layers {
            layers.look_at(&chain);
            layers.chain = Some(Box::new(chain));
        }
        Ok(())
    }
}
