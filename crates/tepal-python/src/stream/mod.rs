//! Stream transports, their protocols, and the servers that accept them.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tepal::engine::{AcceptFault, Consumed, StreamKey, StreamProtocol, Verdict};
use tepal::{Address, Closed};

use crate::host::{PyEngine, PyHost};

/// The protocol of a stream. There are none yet: it has no values.
pub(crate) enum PyStreamProtocol {}

/// What makes the protocols of a server. There are none yet: it has no values.
pub(crate) enum PyFactory {}

impl PyFactory {
    pub(crate) fn make(
        &mut self,
        _py: Python<'_>,
        _engine: &PyEngine,
        _stream: StreamKey<PyHost>,
        _peer: &Address,
    ) -> Verdict<PyStreamProtocol> {
        match *self {}
    }

    pub(crate) fn accept_failed(&mut self, _: Python<'_>, _: &PyEngine, _: AcceptFault) {
        match *self {}
    }

    pub(crate) fn visit(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match *self {}
    }
}

impl PyStreamProtocol {
    pub(crate) fn visit(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match *self {}
    }
}

impl StreamProtocol<PyHost> for PyStreamProtocol {
    fn connection_made(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn connection_established(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn data_received(&mut self, _: &PyEngine, _: StreamKey<PyHost>, _: &[u8]) -> Verdict<Consumed> {
        match *self {}
    }

    fn eof_received(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<bool> {
        match *self {}
    }

    fn pause_writing(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn resume_writing(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn io_out(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        match *self {}
    }

    fn error_connecting(&mut self, _: &PyEngine, _: StreamKey<PyHost>, _: &Closed) -> Verdict<()> {
        match *self {}
    }

    fn connection_lost(&mut self, _: &PyEngine, _: StreamKey<PyHost>, _: &Closed) -> Verdict<()> {
        match *self {}
    }
}
