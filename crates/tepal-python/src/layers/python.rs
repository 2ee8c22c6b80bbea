//! Layers written in Python.
//!
//! A recipe ([`PySpec`]) calls a factory, which makes a `tepal.Layer`. The engine owns a
//! [`PyLayer`], which names that object by a slot in the host's table: the loop shows the table to
//! the collector, so cycles through layers are found. What a layer raises goes along with the error
//! that ends the connection, to the protocol's `connection_lost`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::engine::{StreamKey, WeakEngine};
use tepal::layers::{Error, ErrorKind, Io, Layer, LayerSpec, Site, Status, WriteEof};
use tepal::{Instant, Side};

use super::view::LayerIo;
use super::{Spec, how_from};
use crate::errors::leaves_run;
use crate::event_loop::instant;
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;
use crate::object::{Ref, UnderGil};
use crate::raised::Raised;

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LayerBase>()?;
    super::view::add(module)?;
    module.add_function(wrap_pyfunction!(spec_python, module)?)
}

thread_local! {
    // The engine whose layers this thread builds and steps.
    static CURRENT: RefCell<Option<PyEngine>> = const { RefCell::new(None) };
}

/// Runs `act` while layers written in Python belong to `engine`.
pub(crate) fn with_engine<R>(engine: &PyEngine, act: impl FnOnce() -> R) -> R {
    struct Restore(Option<PyEngine>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let mine = CURRENT.replace(self.0.take());
            drop(mine);
        }
    }
    let restore = Restore(CURRENT.replace(Some(engine.clone())));
    let result = act();
    drop(restore);
    result
}

fn current() -> Option<PyEngine> {
    CURRENT.with_borrow(|engine| engine.clone())
}

/// The layers of a loop that are written in Python.
#[derive(Default)]
pub(crate) struct PyLayers {
    objects: RefCell<HashMap<u64, Ref>>,
    next: Cell<u64>,
}

impl PyLayers {
    fn insert(&self, object: Ref) -> u64 {
        let slot = self.next.get();
        self.next.set(slot + 1);
        self.objects.borrow_mut().insert(slot, object);
        slot
    }

    fn get(&self, py: Python<'_>, slot: u64) -> Option<Ref> {
        self.objects.borrow().get(&slot).map(|object| object.clone_ref(py))
    }

    /// Lets go of everything, for a loop that is closed.
    pub(crate) fn clear(&self) {
        let all = self.objects.take();
        drop(all);
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.objects.try_borrow() {
            Ok(objects) => objects.values().try_for_each(|object| object.visit(visit)),
            Err(_) => Ok(()),
        }
    }
}

/// The native half of `tepal.Layer`: which connection it belongs to.
#[pyclass(subclass, frozen, name = "LayerBase", module = "tepal._tepal")]
pub(crate) struct LayerBase {
    place: UnderGil<RefCell<Option<Home>>>,
}

/// Whose layer it is.
type Home = (WeakEngine<PyHost>, StreamKey<PyHost>);

#[pymethods]
impl LayerBase {
    /// Takes anything, as `object.__new__` does for a class with an `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> LayerBase {
        LayerBase { place: UnderGil::new(RefCell::new(None)) }
    }

    /// Has step() called soon, because something outside of the connection has given work.
    ///
    /// For the loop's own thread; before the first step and after the end it does nothing.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let place = self.place.get(py).borrow().clone();
        let Some((engine, key)) = place.and_then(|(e, key)| Some((e.upgrade()?, key))) else {
            return Ok(());
        };
        let owner = engine.host().thread.get();
        if owner != 0 && owner != crate::event_loop::current_thread() {
            return Err(PyRuntimeError::new_err(
                "wake() is for the loop's own thread; use loop.call_soon_threadsafe(layer.wake)",
            ));
        }
        engine.stream_wake_layers(key);
        Ok(())
    }
}

/// A recipe that calls Python.
struct PySpec {
    name: &'static str,
    // The `LayerRecipe`, which owns this: a strong reference would be a ring that no collector sees.
    // Whoever uses the recipe (a transport, a server) keeps it.
    recipe: Py<PyWeakrefReference>,
}

impl fmt::Debug for PySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({})", self.name)
    }
}

/// A recipe for the layers that `recipe._build()` makes.
#[pyfunction]
fn spec_python(name: &str, recipe: &Bound<'_, PyAny>) -> PyResult<Spec> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        let text =
            format!("a layer's name is made of ASCII letters, digits, - and _, not {name:?}");
        return Err(PyValueError::new_err(text));
    }
    let recipe = PyWeakrefReference::new(recipe)?.unbind();
    Ok(Spec::new(PySpec { name: lasting(name), recipe }))
}

// Names live for ever: there are as many as classes of layers.
fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
}

impl LayerSpec for PySpec {
    fn name(&self) -> &'static str {
        self.name
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Python::attach(|py| {
            let engine = current().ok_or_else(|| {
                let text = "a layer written in Python can be built by its loop only";
                Error::misuse(ErrorKind::Other, text)
            })?;
            match self.make(py, site) {
                Ok((object, view)) => {
                    let slot = engine.host().layers.insert(object);
                    let mut layer = PyLayer {
                        name: self.name,
                        slot,
                        engine: engine.downgrade(),
                        view,
                        key: None,
                        deadline: None,
                        keeps_writes: false,
                        write_eof: WriteEof::Passes,
                    };
                    match layer.look(py) {
                        Ok(()) => Ok(Box::new(layer) as Box<dyn Layer>),
                        Err(error) => Err(layer.failed(py, &engine, error)),
                    }
                }
                Err(error) => Err(told(py, &engine, self.name, error)),
            }
        })
    }
}

impl PySpec {
    fn make(&self, py: Python<'_>, site: &Site<'_>) -> PyResult<(Ref, Py<LayerIo>)> {
        let Some(recipe) = self.recipe.bind(py).upgrade() else {
            return Err(PyRuntimeError::new_err("the recipe of the layer is gone"));
        };
        let object = recipe.call_method0(intern!(py, "_build"))?;
        if !object.is_instance_of::<LayerBase>() {
            let text = format!(
                "the factory of a layer made {}, which is no tepal.Layer",
                object.get_type().name()?
            );
            return Err(PyTypeError::new_err(text));
        }
        object.setattr(intern!(py, "server_side"), site.side == Side::Server)?;
        object.setattr(intern!(py, "host"), site.host.as_ref().map(ToString::to_string))?;
        Ok((Ref::new(object), LayerIo::new(py)?))
    }
}

/// A layer whose steps are Python's.
struct PyLayer {
    name: &'static str,
    slot: u64,
    engine: WeakEngine<PyHost>,
    view: Py<LayerIo>,
    key: Option<StreamKey<PyHost>>,
    deadline: Option<Instant>,
    keeps_writes: bool,
    write_eof: WriteEof,
}

impl PyLayer {
    // The object, unless the loop is closed.
    fn object(&self, py: Python<'_>) -> Option<Ref> {
        self.engine.upgrade()?.host().layers.get(py, self.slot)
    }

    // Reads what the layer says of itself.
    fn look(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(object) = self.object(py) else { return Ok(()) };
        let object = object.bind(py);
        let deadline = object.getattr(intern!(py, "deadline"))?;
        self.deadline = match deadline.extract::<Option<f64>>() {
            Ok(seconds) => seconds.filter(|seconds| seconds.is_finite()).map(instant),
            Err(_) => {
                let text = format!(
                    "a layer's deadline must be seconds on the loop's clock or None, not {}",
                    deadline.get_type().name()?
                );
                return Err(PyTypeError::new_err(text));
            }
        };
        self.keeps_writes = object.getattr(intern!(py, "keeps_writes"))?.is_truthy()?;
        let word = object.getattr(intern!(py, "write_eof"))?;
        self.write_eof = match word.extract::<&str>() {
            Ok("passes") => WriteEof::Passes,
            Ok("taken") => WriteEof::Taken,
            Ok("refused") => WriteEof::Refused,
            _ => {
                let text = "a layer's write_eof must be 'passes', 'taken' or 'refused'";
                return Err(PyValueError::new_err(text));
            }
        };
        Ok(())
    }

    fn failed(&self, py: Python<'_>, engine: &PyEngine, error: PyErr) -> Error {
        told(py, engine, self.name, error)
    }

    fn settle(&mut self, py: Python<'_>, engine: &PyEngine, object: &Ref) {
        if self.key.is_some() {
            return;
        }
        self.key = engine.stream_pumping();
        if let Some(key) = self.key
            && let Ok(base) = object.bind(py).cast::<LayerBase>()
        {
            *base.get().place.get(py).borrow_mut() = Some((engine.downgrade(), key));
        }
    }
}

// A layer raised: what the chain is told. The exception goes along, to the protocol's end; one that
// does not blame the peer is a mistake, and the loop's exception handler hears of it too.
fn told(py: Python<'_>, engine: &PyEngine, name: &'static str, error: PyErr) -> Error {
    let text = error.value(py).str().map(|text| text.to_string()).unwrap_or_default();
    let text = if text.is_empty() { "a layer written in Python failed".to_owned() } else { text };
    let local = |text| Error::local(ErrorKind::Other, text).in_layer(name);
    if leaves_run(py, &error) {
        PyHost::interrupt(engine, error);
        return local(text);
    }
    let helpers = imports(py).helpers.bind(py);
    match helpers.call_method1(intern!(py, "layer_failed"), (name, error.value(py))) {
        Ok(blames) if blames.is_truthy().unwrap_or(false) => {
            Error::remote(ErrorKind::Other, text).in_layer(name).caused_by(Raised::new(py, error))
        }
        Ok(_) => local(text).caused_by(Raised::new(py, error)),
        Err(other) => {
            PyHost::interrupt(engine, other);
            local(text)
        }
    }
}

impl Layer for PyLayer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        Python::attach(|py| {
            let (Some(engine), Some(object)) = (self.engine.upgrade(), self.object(py)) else {
                let text = "the layer's loop is closed";
                return Err(Error::local(ErrorKind::Other, text).in_layer(self.name));
            };
            self.settle(py, &engine, &object);
            let view = self.view.clone_ref(py);
            let result = view
                .get()
                .during(py, io, || object.bind(py).call_method1(intern!(py, "step"), (&view,)));
            let status = result.and_then(|how| {
                self.look(py)?;
                if how.is_none() { Ok(Status::Open) } else { Ok(Status::Done(how_from(&how)?)) }
            });
            status.map_err(|error| self.failed(py, &engine, error))
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn keeps_writes(&self) -> bool {
        self.keeps_writes
    }

    fn write_eof(&self) -> WriteEof {
        self.write_eof
    }

    fn handle_command(&mut self, command: &dyn Any) -> Result<(), Error> {
        let unknown = || {
            let text = "the layer takes objects of Python as commands";
            Error::misuse(ErrorKind::NoSuchCommand, text)
        };
        let command = command.downcast_ref::<Rc<Ref>>().ok_or_else(unknown)?;
        Python::attach(|py| {
            let (Some(engine), Some(object)) = (self.engine.upgrade(), self.object(py)) else {
                return Ok(());
            };
            let arguments = (command.bind(py),);
            let result = object.bind(py).call_method1(intern!(py, "handle_command"), arguments);
            result.map(drop).map_err(|error| {
                // A refusal does not end the layer.
                told(py, &engine, self.name, error)
            })
        })
    }
}

impl Drop for PyLayer {
    fn drop(&mut self) {
        let Some(engine) = self.engine.upgrade() else { return };
        Python::attach(|py| {
            let object = engine.host().layers.objects.borrow_mut().remove(&self.slot);
            let Some(object) = object else { return };
            if let Ok(base) = object.bind(py).cast::<LayerBase>() {
                let place = base.get().place.get(py).take();
                drop(place);
            }
            if engine.is_closed() {
                return;
            }
            if let Err(error) = object.bind(py).call_method0(intern!(py, "gone")) {
                PyHost::nobody_gets(&engine, error, Some(&object.bind(py)));
            }
        });
    }
}
