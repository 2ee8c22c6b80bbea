use std::any::Any;
use std::fmt;

use tepal_base::Instant;

use crate::{Error, FromAbove, How, Io, ToAbove, ToBelow};

/// What tells one layer from all others, also from those of its kind. Unique among the chains that
/// share a [`Workspace`](crate::Workspace): those of one loop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LayerId(u64);

impl LayerId {
    pub(crate) const fn new(number: u64) -> LayerId {
        LayerId(number)
    }

    /// The number, for those who keep it in another language.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The id of such a number.
    pub const fn from_bits(number: u64) -> LayerId {
        LayerId(number)
    }
}

/// Which layer of a connection is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Which<'a> {
    /// The topmost.
    #[default]
    Top,
    /// The topmost of those with this command name.
    Named(&'a str),
    /// This one.
    Id(LayerId),
}

impl Which<'_> {
    /// The position of the layer meant, among layers from the wire upward.
    pub fn find(
        self,
        layers: impl DoubleEndedIterator<Item = (LayerId, &'static str)> + ExactSizeIterator,
    ) -> Option<usize> {
        let mut layers = layers;
        layers.rposition(|(id, name)| match self {
            Which::Top => true,
            Which::Named(wanted) => name == wanted,
            Which::Id(wanted) => id == wanted,
        })
    }
}

impl<'a> From<Option<&'a str>> for Which<'a> {
    fn from(name: Option<&'a str>) -> Self {
        name.map_or(Which::Top, Which::Named)
    }
}

impl<'a> From<&'a str> for Which<'a> {
    fn from(name: &'a str) -> Self {
        Which::Named(name)
    }
}

impl From<LayerId> for Which<'_> {
    fn from(id: LayerId) -> Self {
        Which::Id(id)
    }
}

/// One state machine of a stack: bytes, events and time in; bytes, events and one deadline out.
///
/// A layer owns no socket, reads no clock, wakes nobody and never calls the layer next to it. The
/// chain calls [`step`](Layer::step) whenever something around the layer has changed: bytes came
/// from below or from above, a pause began or ended, room appeared, its deadline passed. In one
/// step the layer looks at what is there through [`Io`], moves what it can, and returns.
///
/// # What a layer may rely on, and what it must do
///
/// * [`Io::from_below`] shows contiguous bytes. What a step does not consume is shown again with
///   more behind it. A layer that knows how many bytes it needs says so
///   ([`need`](crate::FromBelow::need)) and is left alone until they are there, which keeps a
///   growing message linear. It bounds what it waits for: the chain does not.
/// * [`Io::to_above`] may be pushed to while [`may_push`](crate::ToAbove::may_push) says so. A
///   refusal is remembered: the layer is stepped again once the way is free.
/// * [`Io::from_above`] shows what was written, and [`Io::to_below`] takes what is to be sent
///   while it has [`room`](crate::ToBelow::room).
/// * A layer with a handshake says [`ready`](crate::Io::ready) once, when bytes may flow through
///   it. One whose work is then over returns [`Status::Done`] and is taken out of the chain.
/// * When [`Io::finishing`] is true the owner wants it to end: it sends its goodbye, waits for the
///   peer's if it has any, and returns [`Status::Done`].
/// * An error is final: the chain does not step the layer again. What it has sent down before (an
///   alert) still leaves, and what it has pushed up before still arrives. A panic is such an error,
///   of the kind [`Other`](crate::ErrorKind::Other), and costs this connection only.
/// * A step that is called with nothing to do does nothing.
///
/// # Example
///
/// A layer that hides bytes from the eyes of a passer-by, and from nobody else:
///
/// ```
/// use tepal_layers::{Error, Info, Io, Layer, Status};
///
/// struct Xor {
///     key: u8,
///     begun: bool,
/// }
///
/// impl Layer for Xor {
///     fn name(&self) -> &'static str {
///         "xor"
///     }
///
///     fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
///         if !self.begun {
///             self.begun = true;
///             io.ready(Info::None);
///         }
///         if !io.from_below.bytes().is_empty() && io.to_above.may_push() {
///             let bytes = io.from_below.bytes();
///             let count = bytes.len();
///             bytes.iter_mut().for_each(|byte| *byte ^= self.key);
///             io.to_above.push(bytes);
///             io.from_below.consume(count);
///         }
///         while !io.from_above.bytes().is_empty() && io.to_below.room() > 0 {
///             let sent: Vec<u8> = io.from_above.bytes().iter().map(|byte| byte ^ self.key).collect();
///             io.from_above.consume(sent.len());
///             io.to_below.send_vec(sent);
///         }
///         Ok(if io.finishing() { Status::Done(tepal_layers::How::Closed) } else { Status::Open })
///     }
/// }
/// ```
pub trait Layer {
    /// The command name: `tls`, `socks5`. Errors, notices and `below=` speak of it.
    fn name(&self) -> &'static str;

    /// Moves what can be moved.
    ///
    /// # Errors
    ///
    /// What ended the layer; it then stays ended.
    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error>;

    /// Takes what came from below, when that is all there is to do. `None`, as the default says:
    /// nothing was changed, and the layer is stepped.
    ///
    /// Asked instead of a step when the layer is ready and not finishing, alone in its chain, and
    /// nothing stands before the bytes or on their way up. What it then has to say is for the step
    /// that it asks for. It changes nothing that [`deadline`](Layer::deadline) tells.
    fn receive_only(&mut self, bytes: &mut [u8], to_above: &mut ToAbove<'_>) -> Option<Passed> {
        let _ = (bytes, to_above);
        None
    }

    /// Sends what was written, when that is all there is to do: nothing has come from below, and no
    /// frame, end or goodbye is behind the bytes. `Ok(false)`, as the default says: nothing was
    /// taken or sent, and the layer is stepped.
    ///
    /// # Errors
    ///
    /// As for a step.
    fn send_only(
        &mut self,
        from_above: &mut FromAbove<'_>,
        to_below: &mut ToBelow<'_>,
    ) -> Result<bool, Error> {
        let _ = (from_above, to_below);
        Ok(false)
    }

    /// When the layer wants to be stepped though nothing else happens. Asked after each step.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether one write from above is one frame, to be kept apart from the next.
    fn keeps_writes(&self) -> bool {
        false
    }

    /// Whether what is written leaves this layer as it came in, byte by byte, so that it can be taken
    /// back from below it and written again on another connection.
    fn passes_on(&self) -> bool {
        false
    }

    /// What becomes of the end of writing when it reaches this layer.
    fn write_eof(&self) -> WriteEof {
        WriteEof::Passes
    }

    /// Takes an order from the owner while the connection runs ([`LinesMode`](crate::LinesMode)).
    ///
    /// # Errors
    ///
    /// [`NoSuchCommand`](crate::ErrorKind::NoSuchCommand) unless the layer knows the type. An
    /// error here is returned to the owner; it does not end the layer.
    fn handle_command(&mut self, command: &dyn Any) -> Result<(), Error> {
        let _ = command;
        Err(Error::misuse(crate::ErrorKind::NoSuchCommand, "the layer takes no such command"))
    }
}

/// What [`Layer::receive_only`] has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// How many bytes are dealt with. The rest stays, as it now is, for the step that follows.
    pub used: usize,
    /// The layer has more to do or to say: it is stepped.
    pub more: bool,
}

/// Whether a layer stays after a step.
pub enum Status {
    /// It stays.
    Open,
    /// Its work is over: the chain takes it out and joins what is below to what is above.
    Done(How),
    /// Its work is over, and these layers, from the wire upward, stand in its place. They see the
    /// bytes that it has not consumed.
    Become(Vec<Box<dyn Layer>>),
}

/// What becomes of the end of writing at a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteEof {
    /// It passes to the layer below, after all bytes.
    Passes,
    /// The layer has an own way to say so and ends it there (TLS 1.3's close_notify).
    Taken,
    /// It cannot be said without ending the other direction too (TLS 1.2).
    Refused,
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Open => f.write_str("Open"),
            Status::Done(how) => f.debug_tuple("Done").field(how).finish(),
            Status::Become(layers) => f.debug_tuple("Become").field(&layers.len()).finish(),
        }
    }
}
