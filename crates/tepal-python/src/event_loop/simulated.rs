//! Loops on a simulated kernel, and the sockets that listen there.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tepal::Address;
use tepal_driver::{Descriptor, Domain, Driver, Kind, SocketOption};
use tepal_sim::{Config, Disturbance, SimDriver};

use super::Loop;
use crate::address::{from_python, to_python};
use crate::errors::os_error;
use crate::object::{Ref, UnderGil};

/// `tepal.Simulation`, field by field: seed, least and most latency, storms, patience with threads.
pub(super) type Settings = (u64, f64, f64, bool, f64);

/// A kernel of its own for one loop.
pub(super) fn driver((seed, least, most, stormy, patience): Settings) -> PyResult<Box<dyn Driver>> {
    let span = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(format!("{seconds} seconds: {error}")))
    };
    let config = Config {
        seed,
        latency: span(least)?..=span(most)?,
        disturbance: if stormy { Disturbance::stormy() } else { Disturbance::default() },
        thread_patience: span(patience)?,
        ..Config::default()
    };
    Ok(Box::new(SimDriver::with(config)))
}

/// A stream socket of the simulation, bound to an address.
#[pyclass(subclass, frozen, name = "SimulatedSocket", module = "tepal._tepal")]
pub(crate) struct SimulatedSocket {
    place: UnderGil<Place>,
}

struct Place {
    event_loop: RefCell<Option<Ref>>,
    descriptor: Cell<Option<Descriptor>>,
    local: Address,
}

#[pymethods]
impl SimulatedSocket {
    /// Binds to an address in digits, or to a path.
    #[new]
    fn new(event_loop: &Bound<'_, Loop>, address: &Bound<'_, PyAny>) -> PyResult<SimulatedSocket> {
        let state = event_loop.get().state(event_loop.py())?;
        state.check_open()?;
        let Some(address) = from_python(address)? else {
            return Err(PyTypeError::new_err("an address in digits is expected, or a path"));
        };
        let domain = match &address {
            Address::Ip(ip) if ip.is_ipv6() => Domain::Inet6,
            Address::Ip(_) => Domain::Inet,
            _ => Domain::Unix,
        };
        let bound = state.engine.with_driver(|driver| {
            let socket = driver.open(domain, Kind::Stream)?;
            let bound = (|| {
                if domain == Domain::Inet6 {
                    driver.set_option(socket, &SocketOption::OnlyV6(true))?;
                }
                if domain != Domain::Unix {
                    driver.set_option(socket, &SocketOption::ReuseAddress(true))?;
                }
                driver.bind(socket, &address)?;
                driver.local_address(socket)
            })();
            if bound.is_err() {
                let _ = driver.close(socket);
            }
            bound.map(|local| (socket, local))
        });
        let (descriptor, local) = bound.map_err(|error| os_error(&error))?;
        let event_loop = RefCell::new(Some(Ref::new(event_loop.clone().into_any())));
        let place = Place { event_loop, descriptor: Cell::new(Some(descriptor)), local };
        Ok(SimulatedSocket { place: UnderGil::new(place) })
    }

    fn listen(&self, py: Python<'_>, backlog: u32) -> PyResult<()> {
        let place = self.place.get(py);
        let (Some(event_loop), Some(descriptor)) = (self.event_loop(py), place.descriptor.get())
        else {
            return Err(pyo3::exceptions::PyOSError::new_err("the socket is closed"));
        };
        let state = event_loop.get().state(py)?;
        let listening = state.engine.with_driver(|driver| driver.listen(descriptor, backlog));
        listening.map_err(|error| os_error(&error))
    }

    fn getsockname<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.place.get(py).local)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop(py);
        let descriptor = self.place.get(py).descriptor.take();
        let Some((event_loop, descriptor)) = event_loop.zip(descriptor) else { return Ok(()) };
        let state = event_loop.get().state(py)?;
        if !state.engine.is_closed() {
            // A listener on it has closed it already; then it is unknown.
            let _ = state.engine.with_driver(|driver| driver.close(descriptor));
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let place = unsafe { self.place.get_during_traverse() };
        match place.event_loop.try_borrow() {
            Ok(event_loop) => event_loop.iter().try_for_each(|object| object.visit(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let event_loop = self.place.get(py).event_loop.take();
        drop(event_loop);
    }
}

impl SimulatedSocket {
    /// What a listener accepts on; `None` once it is closed.
    pub(crate) fn descriptor(&self, py: Python<'_>) -> Option<Descriptor> {
        self.place.get(py).descriptor.get()
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        let event_loop = self.place.get(py).event_loop.borrow();
        // SAFETY: `new` put an instance of `Loop` there.
        event_loop.as_ref().map(|lp| unsafe { lp.bind(py).cast_unchecked::<Loop>().to_owned() })
    }
}
