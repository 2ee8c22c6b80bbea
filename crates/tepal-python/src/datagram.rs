//! Datagram endpoints.

use std::io;

use pyo3::{PyTraverseError, PyVisit};
use tepal::engine::{DatagramProtocol, Verdict};
use tepal::{Address, Closed, DatagramKey};

use crate::host::{PyEngine, PyHost};

/// The protocol of a datagram endpoint. There are none yet: it has no values.
pub(crate) enum PyDatagramProtocol {}

impl PyDatagramProtocol {
    pub(crate) fn visit(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match *self {}
    }
}

impl DatagramProtocol<PyHost> for PyDatagramProtocol {
    fn connection_made(&mut self, _: &PyEngine, _: DatagramKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn datagram_received(
        &mut self,
        _: &PyEngine,
        _: DatagramKey<PyHost>,
        _: &[u8],
        _: Option<&Address>,
    ) -> Verdict<()> {
        match *self {}
    }

    fn error_received(
        &mut self,
        _: &PyEngine,
        _: DatagramKey<PyHost>,
        _: io::Error,
    ) -> Verdict<()> {
        match *self {}
    }

    fn pause_writing(&mut self, _: &PyEngine, _: DatagramKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn resume_writing(&mut self, _: &PyEngine, _: DatagramKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn connection_lost(&mut self, _: &PyEngine, _: DatagramKey<PyHost>, _: &Closed) -> Verdict<()> {
        match *self {}
    }
}
