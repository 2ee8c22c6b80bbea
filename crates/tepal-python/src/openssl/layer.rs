//! `tepal.OpenSSL`: a session as a layer of a stack.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefMethods, PyWeakrefReference};
use tepal::layers::{
    Error, ErrorKind, How, Info, Io, Layer, LayerSpec, Side, Site, Status, TlsInfo, WriteEof,
};

use super::Classes;
use super::session::{Drained, Session, Step, recycle};
use crate::layers::Spec;
use crate::raised::Raised;

/// What goes into one record at most.
const RECORD: usize = 16 * 1024;

/// The recipe of `tepal.OpenSSL`, which owns it.
#[pyfunction]
pub(super) fn spec_openssl(
    recipe: &Bound<'_, PyAny>,
    server_hostname: Option<String>,
    server_side: Option<bool>,
) -> PyResult<Spec> {
    let recipe = PyWeakrefReference::new(recipe)?.unbind();
    Ok(Spec::new(OpenSsl { recipe, server_hostname, server_side }))
}

struct OpenSsl {
    // The value of Python's, which has the context. A context's callbacks may refer to anything, and
    // the collector does not look in here; whoever uses the recipe keeps the value.
    recipe: Py<PyWeakrefReference>,
    server_hostname: Option<String>,
    server_side: Option<bool>,
}

/// The `ssl.SSLSession` of the last connection, for the next one of the same transport.
type Saved = Arc<Mutex<Option<Py<PyAny>>>>;

impl fmt::Debug for OpenSsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSSL").field("server_hostname", &self.server_hostname).finish()
    }
}

impl LayerSpec for OpenSsl {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Python::attach(|py| match self.make(py, site) {
            Ok(layer) => Ok(Box::new(layer) as Box<dyn Layer>),
            Err(error) => Err(told(py, error)),
        })
    }
}

impl OpenSsl {
    fn make(&self, py: Python<'_>, site: &mut Site<'_>) -> PyResult<OpenSslLayer> {
        let is_server = self.server_side.unwrap_or(site.side == Side::Server);
        let ssl = py.import(intern!(py, "ssl"))?;
        let bio = ssl.getattr(intern!(py, "MemoryBIO"))?;
        let (incoming, outgoing) = (bio.call0()?, bio.call0()?);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "server_side"), is_server)?;
        let mut saved = None;
        if !is_server {
            let host = self.server_hostname.clone();
            let host = host.or_else(|| site.host.as_ref().map(ToString::to_string));
            keywords.set_item(intern!(py, "server_hostname"), host)?;
            let kept = site.keepsake.take().and_then(|kept| kept.downcast::<Saved>().ok());
            let kept = kept.map_or_else(Saved::default, |kept| *kept);
            site.keepsake.replace(Box::new(Arc::clone(&kept)));
            let session = lock(&kept).as_ref().map(|session| session.clone_ref(py));
            keywords.set_item(intern!(py, "session"), session)?;
            saved = Some(kept);
        }
        let Some(recipe) = self.recipe.bind(py).upgrade() else {
            return Err(PyRuntimeError::new_err("the recipe of the layer is gone"));
        };
        let context = recipe.getattr(intern!(py, "context"))?;
        let arguments = (&incoming, &outgoing);
        let object = context.call_method(intern!(py, "wrap_bio"), arguments, Some(&keywords))?;
        let session = Session::new(&object, incoming, outgoing);
        Ok(OpenSslLayer { session, saved, ready: false, told_eof: false })
    }
}

struct OpenSslLayer {
    session: Session,
    saved: Option<Saved>,
    ready: bool,
    told_eof: bool,
}

impl Layer for OpenSslLayer {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        Python::attach(|py| {
            let result = self.run(py, io);
            // Also after an error: the alert.
            let sent = self.send(py, io);
            match result.and_then(|status| sent.map(|()| status)) {
                Ok(status) => Ok(status),
                Err(Failure::Raised(error)) => Err(told(py, error)),
                Err(Failure::Found(error)) => Err(error),
            }
        })
    }

    // `ssl` can end both directions only.
    fn write_eof(&self) -> WriteEof {
        WriteEof::Refused
    }
}

enum Failure {
    Raised(PyErr),
    Found(Error),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Raised(error)
    }
}

impl OpenSslLayer {
    fn run(&mut self, py: Python<'_>, io: &mut Io<'_>) -> Result<Status, Failure> {
        if !self.ready {
            self.session.feed(py, io.from_below.bytes())?;
            let count = io.from_below.bytes().len();
            io.from_below.consume(count);
            match self.session.handshake(py)? {
                Step::Again if io.from_below.ended() => {
                    let text = "the bytes ended during the handshake";
                    return Err(Failure::Found(Error::remote(ErrorKind::EofInHandshake, text)));
                }
                Step::Again => return Ok(Status::Open),
                Step::Done(()) => {
                    self.ready = true;
                    io.ready(Info::Tls(Arc::new(self.facts(py)?)));
                }
            }
        }
        self.read(py, io)?;
        if !io.finishing() || !io.from_above.is_empty() {
            self.write(py, io)?;
        }
        self.end(py, io)
    }

    fn read(&mut self, py: Python<'_>, io: &mut Io<'_>) -> Result<(), Failure> {
        while !self.session.peer_has_closed()
            && (!io.from_below.bytes().is_empty() || self.session.input_len(py) > 0)
            && io.to_above.may_push()
        {
            let count = io.from_below.bytes().len();
            let Drained { data, error, .. } = self.session.drain(py, io.from_below.bytes());
            io.from_below.consume(count);
            let moved = count > 0 || data.is_some();
            if let Some(data) = data {
                io.to_above.push(data.as_bytes());
            }
            if let Some(error) = error {
                return Err(Failure::Raised(error));
            }
            if !moved {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, py: Python<'_>, io: &mut Io<'_>) -> Result<(), Failure> {
        while !io.from_above.is_empty() && io.to_below.room() > 0 {
            let piece = io.from_above.bytes();
            match self.session.write(py, piece.get(..RECORD).unwrap_or(piece))? {
                Step::Done(count) => io.from_above.consume(count),
                Step::Again => break,
            }
            self.send(py, io)?;
        }
        Ok(())
    }

    fn send(&self, py: Python<'_>, io: &mut Io<'_>) -> Result<(), Failure> {
        let output = self.session.take_output(py)?;
        if !output.is_empty() {
            io.to_below.send(&output);
        }
        recycle(output);
        Ok(())
    }

    // What the peer's and the owner's closing mean.
    fn end(&mut self, py: Python<'_>, io: &mut Io<'_>) -> Result<Status, Failure> {
        let wire_ended = io.from_below.ended() && io.from_below.bytes().is_empty();
        if io.finishing() && io.from_above.is_empty() {
            match self.session.unwrap(py) {
                Ok(Step::Done(())) => {
                    // What stood behind the peer's goodbye is the next layer's.
                    let rest = self.session.take_unread(py)?;
                    if !rest.is_empty() {
                        io.to_above.push(&rest);
                    }
                    return Ok(Status::Done(How::Closed));
                }
                Ok(Step::Again) if io.closing() && wire_ended => {
                    return Ok(Status::Done(How::Unconfirmed));
                }
                Ok(Step::Again) => {}
                // The peer talks on, and nobody listens.
                Err(_) if io.closing() => return Ok(Status::Done(How::Unconfirmed)),
                Err(error) => return Err(error.into()),
            }
        }
        if self.session.peer_has_closed() {
            if !self.told_eof {
                self.told_eof = true;
                io.to_above.push_eof();
            }
        } else if wire_ended {
            let text = "the bytes ended without close_notify";
            return Err(Failure::Found(Error::remote(ErrorKind::TlsTruncated, text)));
        }
        Ok(Status::Open)
    }

    fn facts(&self, py: Python<'_>) -> PyResult<TlsInfo> {
        let mut info = TlsInfo::default();
        let Some(object) = self.session.object(py) else { return Ok(info) };
        let version: String = object.call_method0(intern!(py, "version"))?.extract()?;
        info.version = match version.as_str() {
            "TLSv1.3" => "TLSv1.3",
            "TLSv1.2" => "TLSv1.2",
            _ => "older",
        };
        let cipher: Option<(String, String, u32)> =
            object.call_method0(intern!(py, "cipher"))?.extract()?;
        info.cipher = cipher.map(|(name, ..)| name).unwrap_or_default();
        let alpn: Option<String> =
            object.call_method0(intern!(py, "selected_alpn_protocol"))?.extract()?;
        info.alpn = alpn.map(String::into_bytes);
        info.resumed = object.getattr(intern!(py, "session_reused"))?.extract().unwrap_or_default();
        info.server_name = object.getattr(intern!(py, "server_hostname"))?.extract()?;
        let certificate: Option<Vec<u8>> =
            object.call_method1(intern!(py, "getpeercert"), (true,))?.extract()?;
        info.peer_certificates = certificate.into_iter().collect();
        Ok(info)
    }
}

impl Drop for OpenSslLayer {
    fn drop(&mut self) {
        let Some(saved) = self.saved.as_ref().filter(|_| self.ready) else { return };
        Python::attach(|py| {
            // TLS 1.3 gives its tickets late, so the session is taken at the end.
            let session =
                self.session.object(py).and_then(|o| o.getattr(intern!(py, "session")).ok());
            let usable = session.filter(|session| {
                session
                    .getattr(intern!(py, "has_ticket"))
                    .is_ok_and(|it| it.is_truthy().unwrap_or(false))
            });
            let old = usable.and_then(|session| lock(saved).replace(session.unbind()));
            drop(old);
        });
    }
}

fn lock(saved: &Saved) -> std::sync::MutexGuard<'_, Option<Py<PyAny>>> {
    saved.lock().unwrap_or_else(PoisonError::into_inner)
}

// An exception of `ssl`, or of a callback of the context: it goes along.
fn told(py: Python<'_>, error: PyErr) -> Error {
    let text = error.to_string();
    let value = error.value(py);
    let reason: String = value
        .getattr(intern!(py, "reason"))
        .and_then(|reason| reason.extract())
        .unwrap_or_default();
    let kind = if value.hasattr(intern!(py, "verify_code")).unwrap_or(false) {
        ErrorKind::TlsCertificate
    } else if let Some((_, name)) = reason.split_once("ALERT_") {
        ErrorKind::TlsAlert(alert_code(name))
    } else if Classes::has(py, &error, |classes| &classes.error) {
        ErrorKind::TlsProtocol
    } else {
        return Error::local(ErrorKind::Other, text).caused_by(Raised::new(py, error));
    };
    Error::remote(kind, text).caused_by(Raised::new(py, error))
}

/// The number of an alert by OpenSSL's name for it (RFC 8446, section 6); 255 if it is not known.
fn alert_code(name: &str) -> u8 {
    const NAMES: [(&str, u8); 21] = [
        ("UNEXPECTED_MESSAGE", 10),
        ("BAD_RECORD_MAC", 20),
        ("RECORD_OVERFLOW", 22),
        ("HANDSHAKE_FAILURE", 40),
        ("BAD_CERTIFICATE", 42),
        ("UNSUPPORTED_CERTIFICATE", 43),
        ("CERTIFICATE_REVOKED", 44),
        ("CERTIFICATE_EXPIRED", 45),
        ("CERTIFICATE_UNKNOWN", 46),
        ("ILLEGAL_PARAMETER", 47),
        ("UNKNOWN_CA", 48),
        ("ACCESS_DENIED", 49),
        ("DECODE_ERROR", 50),
        ("DECRYPT_ERROR", 51),
        ("PROTOCOL_VERSION", 70),
        ("INSUFFICIENT_SECURITY", 71),
        ("INTERNAL_ERROR", 80),
        ("MISSING_EXTENSION", 109),
        ("UNRECOGNIZED_NAME", 112),
        ("CERTIFICATE_REQUIRED", 116),
        ("NO_APPLICATION_PROTOCOL", 120),
    ];
    NAMES.iter().find(|(known, _)| *known == name).map_or(255, |(_, code)| *code)
}
