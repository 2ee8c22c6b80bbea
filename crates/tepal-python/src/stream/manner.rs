use pyo3::prelude::*;

use crate::imports::imports;
use crate::openssl::SslTransport;

/// How a protocol wants its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Manner {
    /// `data_received(bytes)`; the result is ignored.
    #[default]
    Plain,
    /// `data_received(bytes)`, which returns how many it used: `tepal.Protocol`.
    Counted,
    /// `get_buffer` and `buffer_updated`.
    Buffered,
    /// Exactly asyncio's `StreamReaderProtocol`: the bytes go into its reader.
    Reader,
    /// The TLS of an `ssl=` transport: the bytes go into it as they are.
    Ssl,
}

impl Manner {
    pub(crate) fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Manner> {
        let py = protocol.py();
        let imports = imports(py);
        if protocol.get_type().as_ptr() == imports.stream_reader_protocol.as_ptr() {
            return Ok(Manner::Reader);
        }
        if protocol.is_instance_of::<SslTransport>() {
            return Ok(Manner::Ssl);
        }
        if protocol.is_instance(imports.buffered_protocol.bind(py))? {
            return Ok(Manner::Buffered);
        }
        match imports.counted_protocol.get(py) {
            Some(class) if protocol.is_instance(class.bind(py))? => Ok(Manner::Counted),
            _ => Ok(Manner::Plain),
        }
    }
}
