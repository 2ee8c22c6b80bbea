//! The C library's resolver, on threads that the caller brings.

use std::net::SocketAddr;

use tepal_driver::{Domain, SystemNamesError, SystemQuery};
use tepal_driver::{system_getaddrinfo, system_getnameinfo};

use super::host::RustHost;
use super::names::Answer;
use super::{Loop, Remote, Reply, Resolve};
use crate::engine::Host;
use crate::names::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Family, LookupKey, NameInfo, NameInfoFlags,
    ResolveError, SocketType,
};

pub(super) struct System<E> {
    pub(super) executor: E,
    pub(super) remote: Remote,
}

/// A [`Reply`] that another thread has. Dropped unused, it answers that nobody will.
pub(super) struct AwayReply<T: Send + 'static> {
    pub(super) key: Option<LookupKey<RustHost>>,
    pub(super) answer: Answer<T>,
    pub(super) remote: Remote,
}

impl<E: Fn(Box<dyn FnOnce() + Send>) + 'static> Resolve for System<E> {
    fn getaddrinfo(&self, _: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>) {
        let reply = reply.away(&self.remote);
        let query = SystemQuery {
            host: query.host.map(str::to_owned),
            service: query.service.map(str::to_owned),
            family: match query.hints.family {
                Family::Unspecified => None,
                Family::V4 => Some(Domain::Inet),
                Family::V6 => Some(Domain::Inet6),
            },
            socket_type: query.hints.socket_type.0,
            protocol: query.hints.protocol,
            flags: query.hints.flags.0 as i32,
        };
        (self.executor)(Box::new(move || {
            let result = system_getaddrinfo(&query).map(|infos| {
                let infos = infos.into_iter().map(|info| AddrInfo {
                    socket_type: SocketType(info.socket_type),
                    protocol: info.protocol,
                    canonical_name: info.canonical_name.map(Into::into),
                    address: info.address,
                });
                infos.collect()
            });
            reply.send(result.map_err(resolve_error));
        }));
    }

    fn getnameinfo(
        &self,
        _: &Loop,
        address: SocketAddr,
        flags: NameInfoFlags,
        reply: Reply<NameInfo>,
    ) {
        let reply = reply.away(&self.remote);
        (self.executor)(Box::new(move || {
            let result = system_getnameinfo(address, flags.0 as i32);
            let info = result
                .map(|(host, service)| NameInfo { host: host.into(), service: service.into() });
            reply.send(info.map_err(resolve_error));
        }));
    }
}

fn resolve_error(error: SystemNamesError) -> ResolveError {
    let code = AddrInfoError::from_code(error.code).unwrap_or(AddrInfoError::Fail);
    match error.error {
        Some(cause) => ResolveError::foreign(code, cause),
        None => code.into(),
    }
}

impl<T: Send + 'static> AwayReply<T> {
    fn send(mut self, result: Result<T, ResolveError>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T, ResolveError>) {
        let Some(key) = self.key.take() else { return };
        let answer = self.answer;
        let told = self.remote.call_soon_threadsafe(move |lp| {
            // Nobody may be waiting any more.
            let _ = answer(lp.engine(), key, result);
        });
        // An error says that the loop is closed: nobody waits.
        drop(told);
    }
}

impl<T: Send + 'static> Drop for AwayReply<T> {
    fn drop(&mut self) {
        let text = "the executor dropped the job";
        self.answer(Err(ResolveError::foreign(AddrInfoError::Again, text)));
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<AwayReply<Vec<AddrInfo>>>();
    is_send::<<RustHost as Host>::RemoteJob>();
};
