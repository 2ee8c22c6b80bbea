use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::guard::guard;
use super::{Chain, Floor, Phase};
use crate::link::{InMark, Link, OutMark};
use crate::spec::{Host, Keepsakes, LayerSpec, Site};
use crate::{Error, ErrorKind, How, Layer, LayerId, Notice, Pauses, Turn, Which};

/// What becomes of bytes that were received and not consumed when a layer is pushed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Residual {
    /// If there are any the connection fails: what a peer (or somebody in between) sent in plain
    /// text behind a STARTTLS must not be taken for what TLS protects.
    #[default]
    Reject,
    /// They are dropped.
    Discard,
    /// They are the first input of the new layer: a PROXY header and a ClientHello in one segment.
    Feed,
}

/// What becomes of the connection if the peer does not answer a layer's close in time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Late {
    /// The connection fails with [`CloseTimeout`](ErrorKind::CloseTimeout).
    #[default]
    Close,
    /// The layer is dropped, and what is below it goes on.
    Keep,
}

// A layer that is to stand below another one, once what was written before has passed.
pub(super) struct Waiting {
    floor: Floor,
    above: LayerId,
}

impl Waiting {
    pub(super) fn id(&self) -> LayerId {
        self.floor.id
    }

    pub(super) fn above(&self) -> LayerId {
        self.above
    }
}

impl Chain {
    /// Puts a layer in, above the bytes already written: on top, or directly below the topmost
    /// layer of a name. Returns the new layer's id.
    ///
    /// The bytes already received and not consumed are treated as `residual` says. Call it
    /// between [`took`](Chain::took) and the next [`poll_event`](Chain::poll_event), so that the
    /// protocol's count has been applied. [`Notice::Added`] follows, and [`Notice::Ready`] after
    /// the handshake.
    ///
    /// # Errors
    ///
    /// What the spec finds wrong; [`NoSuchLayer`](ErrorKind::NoSuchLayer);
    /// [`Closing`](ErrorKind::Closing) while the connection closes or a pop is under way (wait for
    /// its [`Notice::Removed`]). Nothing has changed then. Residual bytes that are to be rejected
    /// are no error here: they fail the connection, and the next event says so.
    pub fn push(
        &mut self,
        spec: &Arc<dyn LayerSpec>,
        below: Option<&str>,
        residual: Residual,
        keepsakes: &mut Keepsakes,
        turn: Turn<'_>,
    ) -> Result<LayerId, Error> {
        self.check_place(below)?;
        let mut keepsake = keepsakes.take(spec);
        let mut site = Site {
            side: self.place.side,
            host: self.host.clone(),
            peer: self.place.peer,
            local: self.place.local,
            now: turn.now,
            keepsake: &mut keepsake,
        };
        let layer = guard(|| spec.build(&mut site));
        let layer = layer.map_err(|error| error.in_layer(spec.name()));
        drop(keepsakes.keep(spec, keepsake));
        let layer = layer?;
        let target = spec.target().map(|(host, _)| host.clone());
        let id = turn.workspace.layer_id();
        self.push_layer(id, layer, target, below, residual, turn)?;
        Ok(id)
    }

    /// As [`push`](Chain::push), for a layer that the owner has built: one who builds it before it
    /// can be put in, because a callback runs. `id` is its own
    /// ([`Workspace::layer_id`](crate::Workspace::layer_id)), and `target` its spec's
    /// ([`LayerSpec::target`]).
    ///
    /// # Errors
    ///
    /// As for [`push`](Chain::push).
    pub fn push_layer(
        &mut self,
        id: LayerId,
        layer: Box<dyn Layer>,
        target: Option<Host>,
        below: Option<&str>,
        residual: Residual,
        turn: Turn<'_>,
    ) -> Result<(), Error> {
        let index = self.check_place(below)?;
        let floor = self.make_floor(id, layer)?;
        if below.is_none() {
            self.host = target.or_else(|| self.host.take());
        }
        if !self.judge_residual(index, residual, turn) {
            return Ok(());
        }
        let busy = self.links.iter().skip(index + 1).any(|link| !link.outbound.is_idle());
        if busy {
            // Bytes above were written before: the layer has to wait until they have passed.
            let top = self.links.len() - 1;
            self.links[index].inbound.pauses.set(Pauses::CHANGE, true);
            self.links[top].outbound.mark(OutMark::Insert(floor.id));
            self.waiting.push(Waiting { above: self.floors[index].id, floor });
            self.dirty = self.all();
        } else {
            self.insert(index, floor, turn);
        }
        Ok(())
    }

    /// Takes a layer out gracefully: the topmost one, the topmost of those with a name, or the one
    /// with an id.
    ///
    /// What was written before leaves through it, then it says goodbye (TLS: close_notify) and
    /// waits for the peer's. What is written from now on waits until then, and goes to the layer
    /// below. What the peer sends after its goodbye comes after [`Notice::Removed`]. If the peer
    /// does not answer in `timeout`, `late` decides. Returns the layer's id, for
    /// [`noticed_layer`](Chain::noticed_layer).
    ///
    /// # Errors
    ///
    /// [`NoSuchLayer`](ErrorKind::NoSuchLayer); [`Closing`](ErrorKind::Closing) while the
    /// connection closes, its writing side has ended, or another pop is under way.
    pub fn pop<'a>(
        &mut self,
        layer: impl Into<Which<'a>>,
        timeout: Duration,
        late: Late,
        turn: Turn<'_>,
    ) -> Result<LayerId, Error> {
        self.check_changeable()?;
        let index = self.find(layer.into())?;
        let floor = &mut self.floors[index];
        floor.popped = true;
        floor.late = late;
        floor.limit = Some(turn.now + timeout);
        let id = floor.id;
        let top = self.links.len() - 1;
        self.links[top].outbound.mark(OutMark::Finish(id));
        self.dirty = self.all();
        self.find_deadline();
        Ok(id)
    }

    /// Gives an order to the topmost layer of a name, such as [`LinesMode`](crate::LinesMode).
    ///
    /// # Errors
    ///
    /// [`NoSuchLayer`](ErrorKind::NoSuchLayer), or what the layer says.
    pub fn command(&mut self, name: &str, command: &dyn Any) -> Result<(), Error> {
        let index = self.find(name.into())?;
        let floor = &mut self.floors[index];
        let taken = guard(|| floor.layer.handle_command(command));
        taken.map_err(|error| error.in_layer(floor.name))?;
        floor.need = 0;
        self.dirty |= 1 << index;
        Ok(())
    }

    /// Has every layer stepped at the next poll, whatever it asked to wait for: for layers of a
    /// user's that something outside of the chain has given work.
    pub fn wake(&mut self) {
        self.floors.iter_mut().for_each(|floor| floor.need = 0);
        self.dirty = self.all();
    }

    /// Whether a layer is being taken out, or waits to be put in: no other change may begin.
    pub fn is_changing(&self) -> bool {
        !self.waiting.is_empty() || self.floors.iter().any(|floor| floor.popped)
    }

    // Where a layer would be put in.
    fn check_place(&self, below: Option<&str>) -> Result<usize, Error> {
        self.check_changeable()?;
        match below {
            None => Ok(self.floors.len()),
            Some(name) => self.find(name.into()),
        }
    }

    fn check_changeable(&self) -> Result<(), Error> {
        self.check_writable()?;
        if self.is_changing() {
            let message = "another layer is being put in or taken out";
            return Err(Error::misuse(ErrorKind::Closing, message));
        }
        Ok(())
    }

    fn find(&self, layer: Which<'_>) -> Result<usize, Error> {
        layer.find(self.layer_ids()).ok_or_else(no_such_layer)
    }

    fn judge_residual(&mut self, index: usize, residual: Residual, turn: Turn<'_>) -> bool {
        let links = self.links.iter_mut().skip(index);
        match residual {
            Residual::Feed => {}
            Residual::Discard => links.for_each(|link| link.inbound.clear(turn.workspace)),
            Residual::Reject => {
                let count: usize = links.map(|link| link.inbound.len()).sum();
                if count > 0 {
                    let message = format!("{count} bytes had come before the layer was pushed");
                    for link in self.links.iter_mut().skip(index) {
                        link.inbound.clear(turn.workspace);
                    }
                    self.fail(Error::remote(ErrorKind::ResidualRejected, message), turn);
                    return false;
                }
            }
        }
        true
    }

    fn insert(&mut self, index: usize, floor: Floor, turn: Turn<'_>) {
        let mut link = Link::default();
        let notice = Notice::Added { layer: floor.name };
        link.inbound.mark(InMark::Notice(Box::new((floor.id, notice))));
        let was_top = index == self.floors.len();
        let below = &mut self.links[index].inbound;
        if was_top {
            link.inbound.pauses = below.pauses;
            self.offered = 0;
            below.seen = false;
        }
        below.pauses = Pauses::NONE;
        self.framed |= floor.keeps_writes;
        self.links.insert(index + 1, link);
        self.floors.insert(index, floor);
        self.start_handshake(turn);
        self.dirty = self.all();
    }

    /// The mark of a waiting layer is at layer `at`: puts it in if that is the layer it waits for.
    pub(super) fn insert_waiting(&mut self, new: LayerId, at: LayerId, turn: Turn<'_>) -> bool {
        let waits = |waiting: &Waiting| waiting.floor.id == new && waiting.above == at;
        let Some(place) = self.waiting.iter().position(waits) else { return false };
        let Some(index) = self.floors.iter().position(|floor| floor.id == at) else { return false };
        let waiting = self.waiting.remove(place);
        self.insert(index, waiting.floor, turn);
        true
    }

    // The layer below which a new one was to stand is gone: the new one stands at the wire.
    pub(super) fn insert_stranded(&mut self, new: LayerId, turn: Turn<'_>) {
        if let Some(place) = self.waiting.iter().position(|waiting| waiting.floor.id == new) {
            let waiting = self.waiting.remove(place);
            self.insert(0, waiting.floor, turn);
        }
    }

    /// Takes a layer out and joins what is below it to what is above.
    pub(super) fn remove(&mut self, index: usize, how: How, turn: Turn<'_>) {
        let floor = self.floors.remove(index);
        let mut above = self.links.remove(index + 1);
        let below = &mut self.links[index];
        // An end that the layer told was its own, unless the wire's has passed through it.
        above.inbound.ended = self.received_eof && !below.inbound.has_marks();
        let notice = Notice::Removed { layer: floor.name, how };
        above.inbound.mark(InMark::Notice(Box::new((floor.id, notice))));
        above.inbound.take_all(&mut below.inbound, turn.workspace);
        above.outbound.drop_mark(|mark| matches!(mark, OutMark::Finish(id) if *id == floor.id));
        below.outbound.take_all(&mut above.outbound, turn.workspace);
        below.inbound = above.inbound;
        self.framed = self.floors.iter().any(|floor| floor.keeps_writes);
        self.start_handshake(turn);
        self.dirty = self.all();
        self.check_stranded(turn);
    }

    /// Puts layers in a layer's place.
    pub(super) fn replace(&mut self, index: usize, layers: Vec<Box<dyn Layer>>, turn: Turn<'_>) {
        let mut floors = Vec::new();
        for layer in layers {
            match self.make_floor(turn.workspace.layer_id(), layer) {
                Ok(floor) => floors.push(floor),
                Err(error) => return self.fail_layer(index, error),
            }
        }
        self.remove(index, How::Finished, turn);
        // Each goes below the one before, so that the bytes at hand end up below all of them.
        for floor in floors.into_iter().rev() {
            self.insert(index, floor, turn);
        }
    }

    // Closed before its handshake was done, with nothing written: there is nothing to say.
    pub(super) fn abandon(&mut self, index: usize, turn: Turn<'_>) {
        if self.phase == Phase::Closing {
            self.announced = true; // it never was established, and nobody must be told so
            self.remove(index, How::Unconfirmed, turn);
        }
    }
}

fn no_such_layer() -> Error {
    Error::misuse(ErrorKind::NoSuchLayer, "the connection has no such layer")
}
