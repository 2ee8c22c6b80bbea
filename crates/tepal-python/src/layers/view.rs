//! What a layer written in Python sees of its surroundings: `tepal_layers::Io`, for one step.
//!
//! The four sides are objects of their own, made once per layer. They share one pointer, which is
//! set for the time of a step; at any other time their methods raise RuntimeError.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tepal::layers::{Info, Io};

use crate::object::UnderGil;
use crate::stream::Readable;

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LayerIo>()?;
    module.add_class::<FromBelow>()?;
    module.add_class::<ToAbove>()?;
    module.add_class::<FromAbove>()?;
    module.add_class::<ToBelow>()
}

/// Where the surroundings are during a step.
#[derive(Default)]
struct Place(Cell<Option<NonNull<Io<'static>>>>);

#[derive(Clone)]
struct Shared(Rc<Place>);

impl Shared {
    /// Looks at the surroundings. `act` runs no Python.
    fn with<R>(&self, act: impl FnOnce(&mut Io<'static>) -> R) -> PyResult<R> {
        let Some(mut io) = self.0.0.get() else {
            return Err(PyRuntimeError::new_err(
                "a layer's surroundings can be used only inside its step()",
            ));
        };
        // SAFETY: `during` has set it and takes it away before the surroundings end. The step that
        // owns them is inside Python now and does not use them; `act` returns before Python runs,
        // so this is the only reference.
        Ok(act(unsafe { io.as_mut() }))
    }
}

/// The surroundings of a layer: bytes from below and from above, and the ways up and down.
#[pyclass(frozen, name = "LayerIO", module = "tepal")]
pub(super) struct LayerIo {
    shared: UnderGil<Shared>,
    from_below: Py<FromBelow>,
    to_above: Py<ToAbove>,
    from_above: Py<FromAbove>,
    to_below: Py<ToBelow>,
}

impl LayerIo {
    pub(super) fn new(py: Python<'_>) -> PyResult<Py<LayerIo>> {
        let shared = Shared(Rc::default());
        let side = || UnderGil::new(shared.clone());
        let io = LayerIo {
            from_below: Py::new(py, FromBelow(side()))?,
            to_above: Py::new(py, ToAbove(side()))?,
            from_above: Py::new(py, FromAbove(side()))?,
            to_below: Py::new(py, ToBelow(side()))?,
            shared: side(),
        };
        Py::new(py, io)
    }

    /// Lends `io` to Python for the time of `act`, which must not use it in another way.
    pub(super) fn during<R>(&self, py: Python<'_>, io: &mut Io<'_>, act: impl FnOnce() -> R) -> R {
        struct Reset(Shared);
        impl Drop for Reset {
            fn drop(&mut self) {
                self.0.0.0.set(None);
            }
        }
        let shared = self.shared.get(py);
        // The pointer outlives no step: `Reset` takes it away, also when `act` unwinds.
        shared.0.0.set(Some(NonNull::from(io).cast()));
        let reset = Reset(shared.clone());
        let result = act();
        drop(reset);
        result
    }
}

#[pymethods]
#[allow(clippy::wrong_self_convention, reason = "the names are those of `Io`")]
impl LayerIo {
    /// Bytes that came from below.
    #[getter]
    fn from_below(&self, py: Python<'_>) -> Py<FromBelow> {
        self.from_below.clone_ref(py)
    }

    /// The way up.
    #[getter]
    fn to_above(&self, py: Python<'_>) -> Py<ToAbove> {
        self.to_above.clone_ref(py)
    }

    /// Bytes that were written from above.
    #[getter]
    fn from_above(&self, py: Python<'_>) -> Py<FromAbove> {
        self.from_above.clone_ref(py)
    }

    /// The way down.
    #[getter]
    fn to_below(&self, py: Python<'_>) -> Py<ToBelow> {
        self.to_below.clone_ref(py)
    }

    /// Now, on the loop's clock, in seconds.
    #[getter]
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.shared.get(py).with(|io| io.now().as_secs_f64())
    }

    /// Whether the owner wants the layer to end: it says its goodbye and returns how it ended.
    #[getter]
    fn finishing(&self, py: Python<'_>) -> PyResult<bool> {
        self.shared.get(py).with(|io| io.finishing())
    }

    /// Whether it ends because the whole connection is closed, rather than this layer.
    #[getter]
    fn closing(&self, py: Python<'_>) -> PyResult<bool> {
        self.shared.get(py).with(|io| io.closing())
    }

    /// Tells that bytes may flow through the layer now. Only the first call counts.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.get(py).with(|io| io.ready(Info::None))
    }

    /// Passes up to `most` bytes from below on as they are; returns how many.
    #[pyo3(signature = (most = None))]
    fn pass_up(&self, py: Python<'_>, most: Option<usize>) -> PyResult<usize> {
        let most = most.unwrap_or(usize::MAX);
        self.shared.get(py).with(|io| io.to_above.pass(&mut io.from_below, most))
    }

    /// Passes up to `most` bytes from above on as they are; returns how many.
    #[pyo3(signature = (most = None))]
    fn pass_down(&self, py: Python<'_>, most: Option<usize>) -> PyResult<usize> {
        let most = most.unwrap_or(usize::MAX);
        self.shared.get(py).with(|io| io.to_below.pass(&mut io.from_above, most))
    }
}

fn too_many(count: usize, there: usize) -> PyErr {
    PyValueError::new_err(format!("consume() of {count} bytes where {there} are there"))
}

/// Bytes that came from below.
#[pyclass(frozen, name = "FromBelow", module = "tepal")]
pub(super) struct FromBelow(UnderGil<Shared>);

#[pymethods]
impl FromBelow {
    /// A copy of the bytes that are there; at most the first `most` of them.
    #[pyo3(signature = (most = None))]
    fn bytes<'py>(&self, py: Python<'py>, most: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        // Allocating bytes runs no Python.
        self.0.get(py).with(|io| {
            let bytes = io.from_below.bytes();
            PyBytes::new(py, &bytes[..bytes.len().min(most.unwrap_or(usize::MAX))])
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py).with(|io| io.from_below.bytes().len())
    }

    /// Drops the first `count` bytes.
    fn consume(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.0.get(py).with(|io| match io.from_below.bytes().len() {
            there if there < count => Err(too_many(count, there)),
            _ => {
                io.from_below.consume(count);
                Ok(())
            }
        })?
    }

    /// Asks to be left alone until `count` bytes are there, or the end.
    fn need(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.0.get(py).with(|io| io.from_below.need(count))
    }

    /// Asks for no more from below until the next step.
    fn hold(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.from_below.hold())
    }

    /// Whether these are the last bytes: the peer has ended its side.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.from_below.ended())
    }

    /// Whether a frame ends behind the bytes.
    #[getter]
    fn is_frame(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.from_below.is_frame())
    }
}

/// The way up.
#[pyclass(frozen, name = "ToAbove", module = "tepal")]
pub(super) struct ToAbove(UnderGil<Shared>);

#[pymethods]
impl ToAbove {
    /// Whether one more piece may be pushed. After a refusal the layer is stepped again in time.
    fn may_push(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.to_above.may_push())
    }

    /// As `may_push`, for a layer that makes frames.
    fn may_push_frame(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.to_above.may_push_frame())
    }

    /// Pushes bytes.
    fn push(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = Readable::of(data.as_borrowed())?;
        self.0.get(py).with(|io| io.to_above.push(data.bytes()))
    }

    /// Pushes one frame, which may be empty.
    fn push_frame(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = Readable::of(data.as_borrowed())?;
        self.0.get(py).with(|io| io.to_above.push_frame(data.bytes()))
    }

    /// Tells that no byte will follow.
    fn push_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.to_above.push_eof())
    }
}

/// Bytes that were written from above.
#[pyclass(frozen, name = "FromAbove", module = "tepal")]
pub(super) struct FromAbove(UnderGil<Shared>);

#[pymethods]
impl FromAbove {
    /// A copy of the bytes before the next frame's end; at most the first `most` of them, which is
    /// one good piece for the way down unless more is asked for.
    #[pyo3(signature = (most = 65536))]
    fn bytes<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.0.get(py).with(|io| {
            let mut left = io.from_above.len().min(most);
            PyBytes::new_with(py, left, |mut room| {
                for piece in io.from_above.pieces() {
                    let count = piece.len().min(left);
                    let (head, rest) = std::mem::take(&mut room).split_at_mut(count);
                    head.copy_from_slice(&piece[..count]);
                    (room, left) = (rest, left - count);
                }
                Ok(())
            })
        })?
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py).with(|io| io.from_above.len())
    }

    /// Drops the first `count` bytes.
    fn consume(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.0.get(py).with(|io| match io.from_above.len() {
            there if there < count => Err(too_many(count, there)),
            _ => {
                io.from_above.consume(count);
                Ok(())
            }
        })?
    }

    /// Whether the bytes shown are one write: only if `keeps_writes` is true here or above.
    #[getter]
    fn is_frame(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.from_above.is_frame())
    }

    /// Ends the frame.
    fn take_frame(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.from_above.take_frame())
    }

    /// Whether the end of writing is next, before any byte.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get(py).with(|io| io.from_above.ended())
    }

    /// Takes the end of writing, so that it does not pass below.
    fn take_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.from_above.take_eof())
    }
}

/// The way down.
#[pyclass(frozen, name = "ToBelow", module = "tepal")]
pub(super) struct ToBelow(UnderGil<Shared>);

#[pymethods]
impl ToBelow {
    /// How many bytes are taken before the way is full; one piece may overshoot it.
    fn room(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py).with(|io| io.to_below.room())
    }

    /// Sends bytes.
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = Readable::of(data.as_borrowed())?;
        self.0.get(py).with(|io| io.to_below.send(data.bytes()))
    }

    /// Ends a frame, for a layer below that keeps writes apart.
    fn end_frame(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.to_below.end_frame())
    }

    /// Tells those below that nothing more will be written.
    fn send_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py).with(|io| io.to_below.send_eof())
    }
}
