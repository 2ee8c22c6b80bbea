//! What hosts ask of a stream's layers.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tepal_layers::{
    Error, ErrorKind, Host as Name, Info, Keepsakes, Late, LayerId, LayerSpec, Residual, Side,
    Site, Stack, Which,
};

use super::{Layers, Popping, Pushed, Recipe, Request, UNBUILT, insert_name};
use crate::engine::{Engine, Host, Step, StreamKey, stream};
use crate::transport::stream::{Phase, Stream};

impl<H: Host> Stream<H> {
    pub(super) fn side(&self) -> Side {
        match &self.recipe {
            Some(recipe) => recipe.side,
            None if self.listener.is_some() => Side::Server,
            None => Side::Client,
        }
    }

    fn recipe_mut(&mut self) -> &mut Recipe {
        let side = self.side();
        self.recipe.get_or_insert_with(|| {
            let (keepsakes, infos) = (Keepsakes::default(), Vec::new());
            let stack = Stack::new();
            let changed = false;
            Box::new(Recipe { stack, side, host: None, keepsakes, top: None, infos, changed })
        })
    }
}

impl<H: Host> Engine<H> {
    /// Says which layers stand on a stream's wire, from the wire upward, on which side of the
    /// connection they are, and which host the wire leads to (`None`: its peer's address).
    ///
    /// To be called before the stream is established: right after it was made, or in
    /// [`Host::accepted`]. From then on bytes written wait in order; once the wire stands the
    /// layers are built and [`connection_established`] comes when all are ready. An empty stack
    /// says no more than the side and the host, for layers that are pushed later.
    ///
    /// What the layers leave behind for later ([`Keepsakes`]) belongs to the stream: it survives
    /// attempts, pushes and pops.
    ///
    /// # Errors
    ///
    /// `Closing` if it is too late.
    ///
    /// [`connection_established`]: crate::engine::StreamProtocol::connection_established
    pub fn stream_set_layers(
        &self,
        key: StreamKey<H>,
        stack: Stack,
        side: Side,
        host: Option<Name>,
    ) -> Result<(), Error> {
        let mut objects = self.core().objects.borrow_mut();
        let early = |stream: &&mut Stream<H>| {
            matches!(stream.phase, Phase::Attached | Phase::Connecting) && stream.output.is_empty()
        };
        let Some(stream) = stream(&mut objects, key).filter(early) else {
            let text = "the connection's layers are set before it is established; push them now";
            return Err(Error::misuse(ErrorKind::Closing, text));
        };
        let layered = !stack.is_empty();
        let layers = layered.then(|| Box::new(Layers::of(&stack)));
        let recipe = stream.recipe_mut();
        let old = std::mem::replace(&mut recipe.stack, stack);
        (recipe.side, recipe.host) = (side, host);
        let before = std::mem::replace(&mut stream.layers, layers);
        drop(objects);
        drop((old, before));
        Ok(())
    }

    /// Puts a layer in, above the bytes already written: on top, or directly below the layer
    /// named. [`layer_added`] follows, and [`layer_ready`] after its handshake.
    ///
    /// What was received and not consumed is treated as `residual` says. Inside `data_received`
    /// that call's count is applied first. Legal inside every callback.
    ///
    /// # Errors
    ///
    /// What the spec finds wrong; `NoSuchLayer`; `Closing` while the connection is not
    /// established, closes, has ended its writing, or another layer is put in or taken out. Nothing
    /// has changed then.
    /// Residual bytes that are to be rejected are no error here: they end the connection.
    ///
    /// [`layer_added`]: crate::engine::StreamProtocol::layer_added
    /// [`layer_ready`]: crate::engine::StreamProtocol::layer_ready
    pub fn stream_push_layer(
        &self,
        key: StreamKey<H>,
        spec: &Arc<dyn LayerSpec>,
        below: Option<&str>,
        residual: Residual,
    ) -> Result<LayerId, Error> {
        self.with_open(key, |stream| check_name(stream, below))?;
        let place = self.place_of(key);
        let mut keepsake =
            self.with_open(key, |stream| Ok(stream.recipe_mut().keepsakes.take(spec)))?;
        // The spec is user code, and may end the connection.
        let host = self.with_open(key, |stream| {
            let recipe = stream.recipe_mut();
            let stack = recipe.stack.specs().iter();
            let through = stack.rev().find_map(|spec| spec.target()).map(|(host, _)| host.clone());
            Ok(recipe.top.clone().or(through).or(place.host))
        })?;
        let mut site = Site {
            side: place.side,
            host,
            peer: place.peer,
            local: place.local,
            now: self.now(),
            keepsake: &mut keepsake,
        };
        let built = spec.build(&mut site).map_err(|error| error.in_layer(spec.name()));
        let target = spec.target().map(|(host, _)| host.clone());
        let replaced =
            self.with_open(key, |stream| Ok(stream.recipe_mut().keepsakes.keep(spec, keepsake)))?;
        drop(replaced);
        let layer = built?;
        let below = below.map(str::to_owned);
        self.with_open(key, |stream| {
            check_name(stream, below.as_deref())?;
            if below.is_none() && target.is_some() {
                stream.recipe_mut().top.clone_from(&target);
            }
            Ok(())
        })?;
        self.ensure_layers(key);
        let id = self.core().workspace.layer_id();
        self.ask(key, |layers| {
            let pushed = Pushed { id, layer, target, below, residual };
            insert_name(&mut layers.names, &pushed);
            layers.inbox.push(Request::Push(pushed));
        });
        Ok(id)
    }

    /// Takes a layer out gracefully: the topmost one, the topmost of a name, or the one with an id.
    ///
    /// What was written before leaves through it; it says goodbye and waits for the peer's. What
    /// is written from now on waits until then, and goes to the layer below. [`layer_removed`]
    /// follows, and `completion` gets [`Outcome::Popped`](crate::engine::Outcome::Popped). If the
    /// peer does not answer within `timeout`, `late` decides.
    ///
    /// # Errors
    ///
    /// The completion comes back: with `NoSuchLayer`; with `Closing` while the connection is not
    /// established, closes, its writing has ended, or another layer is put in or taken out.
    ///
    /// [`layer_removed`]: crate::engine::StreamProtocol::layer_removed
    pub fn stream_pop_layer(
        &self,
        key: StreamKey<H>,
        layer: Which<'_>,
        timeout: Duration,
        late: Late,
        completion: H::Completion,
    ) -> Result<(), (Error, H::Completion)> {
        let found = self.with_open(key, |stream| {
            check_name(stream, None)?;
            let layers = stream.layers.as_ref();
            let names = layers.map(|layers| &layers.names[..]).unwrap_or_default();
            let at = layer.find(names.iter().copied());
            at.and_then(|at| names.get(at).copied()).ok_or_else(no_such_layer)
        });
        let (id, name) = match found {
            Ok(found) => found,
            Err(error) => return Err((error, completion)),
        };
        let layer = Some(id).filter(|id| *id != UNBUILT);
        self.ask(key, |layers| {
            layers.popping = Some(Popping { layer: None, completion });
            layers.inbox.push(Request::Pop { layer, name, timeout, late });
        });
        Ok(())
    }

    /// Gives an order to the layer named, such as [`LinesMode`](tepal_layers::LinesMode). It is
    /// carried out in order with writes; inside `data_received` after that call's count. A layer
    /// that does not know the order is told of by [`Host::report`].
    ///
    /// # Errors
    ///
    /// `NoSuchLayer`, `Closing`.
    pub fn stream_command(
        &self,
        key: StreamKey<H>,
        layer: &str,
        command: Box<dyn Any>,
    ) -> Result<(), Error> {
        let found = self.with_open(key, |stream| {
            let layers = stream.layers.as_ref().filter(|layers| layers.has_named(layer));
            layers.map(|_| ()).ok_or_else(no_such_layer)
        });
        if let Err(error) = found {
            drop(command);
            return Err(error);
        }
        let layer = layer.to_owned();
        self.ask(key, |layers| layers.inbox.push(Request::Command { layer, command }));
        Ok(())
    }

    /// Has every layer of a stream stepped by the end of the turn: for layers of the host's users
    /// that something outside has given work (a timer, another thread's answer). Harmless at any
    /// time.
    pub fn stream_wake_layers(&self, key: StreamKey<H>) {
        if !self.wake_trials(key) {
            self.ask(key, |layers| layers.inbox.push(Request::Wake));
        }
    }

    /// The stream whose layers are being moved now: what a layer that is stepped belongs to.
    pub fn stream_pumping(&self) -> Option<StreamKey<H>> {
        self.core().pumping.get()
    }

    /// The names of a stream's layers, from the wire upward.
    pub fn stream_layers(&self, key: StreamKey<H>) -> Vec<&'static str> {
        let mut objects = self.core().objects.borrow_mut();
        let layers = stream(&mut objects, key).and_then(|stream| stream.layers.as_ref());
        let names = layers.map(|layers| layers.names.iter().map(|(_, name)| *name).collect());
        names.unwrap_or_default()
    }

    /// The layers of a stream that are built, with their ids, from the wire upward.
    pub fn stream_layer_ids(&self, key: StreamKey<H>) -> Vec<(LayerId, &'static str)> {
        let mut objects = self.core().objects.borrow_mut();
        let layers = stream(&mut objects, key).and_then(|stream| stream.layers.as_ref());
        let built = |(id, _): &(LayerId, &'static str)| *id != UNBUILT;
        let ids = layers.map(|layers| layers.names.iter().copied().filter(built).collect());
        ids.unwrap_or_default()
    }

    /// What the handshake of the topmost layer of a name found out, as long as the layer is there;
    /// of layers whose handshake was their work (SOCKS, PROXY), as long as the stream is.
    pub fn stream_layer_info(&self, key: StreamKey<H>, layer: &str) -> Option<Info> {
        let mut objects = self.core().objects.borrow_mut();
        let infos = &stream(&mut objects, key)?.recipe.as_ref()?.infos;
        infos.iter().rev().find(|found| found.name == layer).map(|found| found.info.clone())
    }

    /// The layer whose handshake is under way, if one is.
    pub fn stream_handshaking(&self, key: StreamKey<H>) -> Option<&'static str> {
        let mut objects = self.core().objects.borrow_mut();
        stream(&mut objects, key)?.layers.as_ref()?.handshaking
    }

    // Something of an established stream that is not ending.
    fn with_open<R>(
        &self,
        key: StreamKey<H>,
        ask: impl FnOnce(&mut Stream<H>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut objects = self.core().objects.borrow_mut();
        match stream(&mut objects, key).filter(|s| s.is_open() && !s.is_ending()) {
            Some(stream) => ask(stream),
            None => {
                let text = "layers are changed while a connection stands and is not closing";
                Err(Error::misuse(ErrorKind::Closing, text))
            }
        }
    }

    // Puts something in the inbox, to be carried out by the end of the turn.
    pub(in crate::transport) fn ask(&self, key: StreamKey<H>, put: impl FnOnce(&mut Layers<H>)) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if let Some(layers) = &mut stream.layers {
            put(layers);
        }
        if stream.mark_dirty() {
            self.core().dirty.borrow_mut().push(key);
        }
    }

    // Nothing passes a plain stream that is to have layers until the pump builds its chain, in the
    // next turn: a protocol that looks at bytes now has then told how many it used.
    fn ensure_layers(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if stream.layers.is_none() {
            stream.layers = Some(Box::new(Layers::new()));
            if stream.queue_pump() {
                self.push_step(key, Step::Pump);
            }
        }
    }
}

fn check_name<H: Host>(stream: &Stream<H>, name: Option<&str>) -> Result<(), Error> {
    let layers = stream.layers.as_ref();
    if layers
        .is_some_and(|layers| layers.popping.is_some() || layers.changing || layers.inbox.changes())
    {
        let text = "another layer is being put in or taken out";
        return Err(Error::misuse(ErrorKind::Closing, text));
    }
    if stream.has_ended_output() {
        let text = "the writing side has been ended";
        return Err(Error::misuse(ErrorKind::Closing, text));
    }
    let known = |name: &str| layers.is_some_and(|layers| layers.has_named(name));
    match name {
        Some(name) if !known(name) => Err(no_such_layer()),
        _ => Ok(()),
    }
}

fn no_such_layer() -> Error {
    Error::misuse(ErrorKind::NoSuchLayer, "the connection has no such layer")
}
