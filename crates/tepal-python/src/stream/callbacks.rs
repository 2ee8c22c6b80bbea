//! The engine's calls, made into calls of the user's protocol.

use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use tepal::Closed;
use tepal::engine::{Consumed, StreamKey, StreamProtocol, Verdict};
use tepal::layers::{How, Info, ProxyRequest};
use tepal_base::Buffer;

use super::calling::{consumed, in_context, log_in_debug};
use super::hooks::Hook;
use super::manner::Manner;
use super::pipe::{self, Role};
use super::protocol::PyStreamProtocol;
use super::reader::{self, Fed};
use super::target;
use crate::host::{PyEngine, PyHost, attached};
use crate::imports::imports;
use crate::layers::{info_to_python, request_to_python};
use crate::memory;
use crate::openssl::SslTransport;

impl StreamProtocol<PyHost> for PyStreamProtocol {
    fn connection_made(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        let py = attached();
        let name = intern!(py, "connection_made");
        let transport = self.transport(py).to_owned();
        match self.call(engine, py, name, Some(transport.as_any().as_borrowed())) {
            Ok(_) => {
                self.forget_view(engine, py);
                Ok(())
            }
            // A protocol that does not know of its connection, and the peer waits for it.
            Err(error)
                if error.is_instance_of::<PyMemoryError>(py)
                    || self.inner(py).manner.get() == Manner::Ssl =>
            {
                let message = "connection_made() call failed";
                self.failed(engine, error, message, ())
            }
            Err(error) => self.complain(engine, error, "connection_made"),
        }
    }

    fn connection_established(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
    ) -> Verdict<()> {
        let py = attached();
        let inner = self.inner(py);
        if !inner.hooks.get().has(Hook::IoOut) {
            engine.stream_decline_io_out(stream);
        }
        self.begin(engine, stream);
        let transport = self.transport(py).to_owned().into_any();
        let told = self.hook(engine, Hook::Established, |_| Ok([Some(transport), None]));
        if self.tell_waiter(engine, None) {
            engine.stream_read_later(stream);
        }
        told
    }

    #[inline]
    fn data_received(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        data: &[u8],
    ) -> Verdict<Consumed> {
        let py = attached();
        let manner = self.inner(py).manner.get();
        let result = match manner {
            Manner::Reader => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                let fed = self.watched(engine, "data_received", || {
                    in_context(py, &context, || reader::feed(py, &protocol, data))
                });
                fed.map(|fed| {
                    if let Fed::Untold(error) = fed {
                        PyHost::interrupt(engine, error);
                    }
                    None
                })
            }
            // Of a protocol that lent memory before: what it was given as bytes, it gets as bytes.
            Manner::Buffered => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                self.watched(engine, "buffer_updated", || {
                    in_context(py, &context, || target::copy_in(py, &protocol, data)).map(|()| None)
                })
            }
            Manner::Ssl => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                // SAFETY: this manner is chosen by that type.
                let ssl = unsafe { protocol.bind(py).cast_unchecked::<SslTransport>() };
                self.watched(engine, "data_received", || {
                    in_context(py, &context, || SslTransport::received(&ssl, data)).map(|()| None)
                })
            }
            Manner::Plain | Manner::Counted => {
                let name = if self.inner(py).hooks.get().has(Hook::IoIn) {
                    intern!(py, "io_in")
                } else {
                    intern!(py, "data_received")
                };
                memory::bytes(py, data).and_then(|bytes| {
                    self.call(engine, py, name, Some(bytes.as_any().as_borrowed()))
                })
            }
        };
        match result {
            Ok(Some(count)) if manner == Manner::Counted && !count.is_none() => {
                consumed(&count, data.len()).or_else(|error| {
                    self.failed(
                        engine,
                        error,
                        "data_received() returned a wrong count",
                        Consumed::All,
                    )
                })
            }
            Ok(_) => Ok(Consumed::All),
            Err(error) => self.failed(
                engine,
                error,
                match manner {
                    Manner::Buffered | Manner::Ssl => "buffer_updated() call failed",
                    _ => "data_received() call failed",
                },
                Consumed::All,
            ),
        }
    }

    fn lend(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: usize,
    ) -> Verdict<Option<Buffer>> {
        let py = attached();
        if self.inner(py).manner.get() != Manner::Buffered {
            return Ok(None);
        }
        let Some((protocol, context)) = self.links(py) else { return Ok(None) };
        let lent = self.watched(engine, "get_buffer", || {
            in_context(py, &context, || target::lend(py, &protocol))
        });
        lent.map(Some).or_else(|error| {
            let message = "get_buffer() call failed";
            self.failed(engine, error, message, None)
        })
    }

    fn buffer_updated(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        buffer: Buffer,
        count: usize,
    ) -> Verdict<()> {
        // The protocol may resize its memory only once the export is over.
        drop(buffer);
        if count == 0 {
            return Ok(());
        }
        let py = attached();
        let result = count.into_pyobject(py).map_err(PyErr::from).and_then(|count| {
            self.call(engine, py, intern!(py, "buffer_updated"), Some(count.as_any().as_borrowed()))
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) => self.failed(engine, error, "buffer_updated() call failed", ()),
        }
    }

    fn eof_received(&mut self, engine: &PyEngine, stream: StreamKey<PyHost>) -> Verdict<bool> {
        let py = attached();
        let is_pipe = self.inner(py).role.get() == Role::ReadEnd;
        if is_pipe {
            // The end of a pipe is not the protocol's to decide.
            self.inner(py).closing.set(true);
            engine.stream_close(stream);
        }
        let what = if is_pipe { "was closed by peer" } else { "received EOF" };
        if let Err(error) = log_in_debug(&self.transport(py), engine, what) {
            PyHost::interrupt(engine, error);
        }
        let keep = self
            .call(engine, py, intern!(py, "eof_received"), None)
            .and_then(|keep| keep.map_or(Ok(false), |keep| keep.is_truthy()));
        let keep = keep.or_else(|error| {
            let message = "eof_received() call failed";
            self.failed(engine, error, message, false)
        })?;
        let keep = keep && !is_pipe;
        // Otherwise a plain stream asks again.
        if !keep && !engine.is_interrupted() {
            self.inner(py).closing.set(true);
        }
        Ok(keep)
    }

    // Called inside `write` instead, as asyncio does.
    fn pause_writing(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        Ok(())
    }

    fn resume_writing(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        let py = attached();
        let Some((_, context)) = self.links(py) else { return Ok(()) };
        let helpers = imports(py).transports.bind(py);
        let told = self.watched(engine, "resume_writing", || {
            in_context(py, &context, || {
                helpers.call_method1(intern!(py, "resume_protocol"), (self.transport(py),))
            })
        });
        if let Err(error) = told {
            PyHost::interrupt(engine, error);
        }
        Ok(())
    }

    fn io_out(&mut self, engine: &PyEngine, stream: StreamKey<PyHost>) -> Verdict<()> {
        if !self.inner(attached()).hooks.get().has(Hook::IoOut) {
            engine.stream_decline_io_out(stream);
        }
        self.hook(engine, Hook::IoOut, |_| Ok([None, None]))
    }

    fn error_connecting(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.error_hook(engine, Hook::ErrorConnecting, closed)
    }

    fn error_dns(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.error_hook(engine, Hook::ErrorDns, closed)
    }

    fn timeout_dns(&mut self, engine: &PyEngine, _: StreamKey<PyHost>, _: &Closed) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutDns, |_| Ok([None, None]))
    }

    fn timeout_connecting(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: &Closed,
    ) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutConnecting, |_| Ok([None, None]))
    }

    fn timeout_handshake(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: &Closed,
    ) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutHandshake, |_| Ok([None, None]))
    }

    fn timeout_idle(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutIdle, |_| Ok([None, None]))
    }

    fn layer_ready(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        info: &Info,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerReady, |py| {
            Ok([Some(name_of(py, layer)), Some(info_to_python(py, info)?)])
        })
    }

    fn layer_added(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerAdded, |py| Ok([Some(name_of(py, layer)), None]))
    }

    fn layer_removed(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        how: How,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerRemoved, |py| {
            Ok([Some(name_of(py, layer)), Some(name_of(py, how.as_str()))])
        })
    }

    fn layer_idle(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerIdle, |py| Ok([Some(name_of(py, layer)), None]))
    }

    fn layer_request(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        request: &ProxyRequest,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerRequest, |py| {
            Ok([Some(name_of(py, layer)), Some(request_to_python(py, request)?)])
        })
    }

    fn error_layer(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let is_tls = closed.layer() == Some("tls");
        let hook = if is_tls && self.inner(attached()).hooks.get().has(Hook::ErrorSsl) {
            Hook::ErrorSsl
        } else {
            Hook::ErrorLayer
        };
        self.error_hook(engine, hook, closed)
    }

    fn connection_lost(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let py = attached();
        let inner = self.inner(py);
        inner.closing.set(true);
        inner.links.borrow_mut().closed = Some(Box::new(closed.clone()));
        if let Some(descriptor) = engine.stream_descriptor(stream) {
            // For those who ask for it later.
            let local = engine.with_driver(|driver| driver.local_address(descriptor));
            inner.local.set(local.ok().map(Box::new));
        }
        let exc = self.exception(py, closed);
        if closed.error.is_some() && inner.role.get() != Role::Connection {
            pipe::tell_failure(engine, self.transport(py), closed, &exc);
        }
        let called = self.call(engine, py, intern!(py, "connection_lost"), Some(exc.as_borrowed()));
        self.detach_view(engine, py);
        match called {
            Ok(_) => Ok(()),
            Err(error) => {
                // Whoever waits for the end, and asyncio's own protocols cannot tell.
                let untold = error.is_instance_of::<PyMemoryError>(py)
                    && self.links(py).is_some_and(|(protocol, _)| {
                        memory::is_own(&protocol.bind(py).get_type()).unwrap_or(true)
                    });
                let again = untold.then(|| error.clone_ref(py));
                let told = self.complain(engine, error, "connection_lost");
                if let Some(error) = again {
                    PyHost::interrupt(engine, error);
                }
                told
            }
        }
    }

    fn finished(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let py = attached();
        let exc = self.exception(py, closed);
        let mut links = self.inner(py).links.borrow_mut();
        let failure = links.failure.take();
        links.marks = Some(Box::new(engine.stream_write_marks(stream)));
        drop(links);
        drop(failure);
        self.tell_waiter(engine, Some(&exc));
        self.inner(py).lost.set(true);
        self.let_go(engine, stream);
        Ok(())
    }
}

fn name_of<'py>(py: Python<'py>, name: &str) -> Bound<'py, PyAny> {
    PyString::intern(py, name).into_any()
}
