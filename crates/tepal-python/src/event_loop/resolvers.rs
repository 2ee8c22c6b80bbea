//! Resolvers beside the loop's own: for single connections, and those of the user's.

use std::net::SocketAddr;
use std::rc::Rc;

use pyo3::prelude::*;
use tepal::names::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Family, ForeignResolver, LookupKey, NameInfoFlags,
    ResolveError, SocketType,
};

use super::Loop;
use super::names::settings;
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;

/// The protocol's number of TCP.
const TCP: i32 = 6;

#[pymethods]
impl Loop {
    /// Adds a resolver with the settings of a tepal.Resolver; the number to name it by.
    #[allow(clippy::too_many_arguments, reason = "the fields of tepal.Resolver, one by one")]
    fn _add_resolver(
        &self,
        py: Python<'_>,
        servers: Option<Vec<(String, u16)>>,
        search: Option<Vec<String>>,
        ndots: Option<usize>,
        hosts: bool,
        timeout: Option<f64>,
        attempts: Option<u32>,
        cache_size: usize,
    ) -> PyResult<u64> {
        let state = self.state(py)?;
        state.check_open()?;
        let settings = settings(servers, search, ndots, hosts, timeout, attempts, cache_size)?;
        Ok(state.engine.resolver_add(settings).to_bits())
    }

    /// Adds a resolver that is Python: `ask(lookup, host, port, family)` is to call
    /// `_answer_addrinfo`.
    fn _add_foreign_resolver(&self, py: Python<'_>, ask: Py<PyAny>) -> PyResult<u64> {
        let state = self.state(py)?;
        state.check_open()?;
        Ok(state.engine.resolver_add_foreign(Rc::new(Asker(ask))).to_bits())
    }

    /// Answers a question: addresses, or a code of socket.gaierror and words.
    fn _answer_addrinfo(
        &self,
        py: Python<'_>,
        lookup: u64,
        found: Vec<(std::net::IpAddr, u16, u32)>,
        code: i32,
        text: String,
    ) -> PyResult<()> {
        let result = if found.is_empty() {
            let code = AddrInfoError::from_code(code).unwrap_or(AddrInfoError::Fail);
            Err(ResolveError::foreign(code, text))
        } else {
            Ok(found.into_iter().map(info).collect())
        };
        // Whoever asked may have gone.
        self.state(py)?.engine.answer_addrinfo(LookupKey::from_bits(lookup), result);
        Ok(())
    }
}

fn info((ip, port, scope): (std::net::IpAddr, u16, u32)) -> AddrInfo {
    let mut address = SocketAddr::new(ip, port);
    if let SocketAddr::V6(address) = &mut address {
        address.set_scope_id(scope);
    }
    AddrInfo { socket_type: SocketType::STREAM, protocol: TCP, canonical_name: None, address }
}

/// A resolver of the user's.
struct Asker(Py<PyAny>);

impl ForeignResolver<PyHost> for Asker {
    fn getaddrinfo(&self, engine: &PyEngine, lookup: LookupKey<PyHost>, query: &AddrInfoQuery<'_>) {
        Python::attach(|py| {
            let family = match query.hints.family {
                Family::V4 => imports(py).af_inet.bind(py).clone(),
                Family::V6 => imports(py).af_inet6.bind(py).clone(),
                Family::Unspecified => {
                    0i32.into_pyobject(py).unwrap_or_else(|never| match never {}).into_any()
                }
            };
            let service = query.service.and_then(|service| service.parse::<u16>().ok());
            let arguments = (lookup.to_bits(), query.host, service.unwrap_or(0), family);
            if let Err(error) = self.0.bind(py).call1(arguments) {
                let text = error.to_string();
                error.write_unraisable(py, Some(self.0.bind(py)));
                let failed = ResolveError::foreign(AddrInfoError::Fail, text);
                engine.answer_addrinfo(lookup, Err(failed));
            }
        });
    }

    fn getnameinfo(
        &self,
        engine: &PyEngine,
        lookup: LookupKey<PyHost>,
        _: SocketAddr,
        _: NameInfoFlags,
    ) {
        // Connections ask for addresses only.
        let error = ResolveError::foreign(AddrInfoError::Fail, "it gives addresses only");
        engine.answer_nameinfo(lookup, Err(error));
    }
}
