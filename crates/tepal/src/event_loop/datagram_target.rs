//! Datagram endpoints that are connected to a peer by name.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tepal_driver::{Address, Kind};

use super::host::{BoundDatagram, RustEngine};
use super::{ConnectError, DatagramProtocol, DatagramTransport, Loop, Target};
use crate::engine::Peer;
use crate::names::{AddrInfoQuery, Hints, ResolveError, SocketType};
use crate::{AttemptReport, CloseKind, Closed, Phase, Problem, ProblemCause, ProblemKind, engine};

impl Loop {
    /// Makes a datagram endpoint that is connected to `target`: its name is resolved, and the first
    /// address that this machine has a way to counts. The local side is bound first, as
    /// [`Target::local`] says.
    ///
    /// Nothing is sent, so nothing tells whether the peer is there. Of the target's times only that
    /// of the name counts; layers, a plan and a race have no meaning here.
    ///
    /// ```no_run
    /// use tepal::{DatagramProtocol, EventLoop, Target};
    ///
    /// struct Client;
    /// impl DatagramProtocol for Client {}
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let event_loop = EventLoop::new()?;
    /// let target = Target::host("sip.example.org", 5060).local("192.0.2.1:5060".parse()?);
    /// let endpoint = event_loop.run_until_complete(event_loop.connect_datagram(Client, target))??;
    /// endpoint.send_to(b"OPTIONS sip:example.org SIP/2.0\r\n\r\n", None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_datagram(
        &self,
        protocol: impl DatagramProtocol,
        target: impl Into<Target>,
    ) -> impl Future<Output = Result<DatagramTransport, ConnectError>> + 'static {
        let (lp, target) = (self.clone(), target.into());
        let way = Way { begun: lp.time(), lp, target };
        async move { way.connect(BoundDatagram::new(Box::new(protocol))).await }
    }
}

struct Way {
    lp: Loop,
    target: Target,
    begun: crate::Instant,
}

impl Way {
    async fn connect(self, protocol: BoundDatagram) -> Result<DatagramTransport, ConnectError> {
        let addresses = self.addresses().await.map_err(|error| self.unresolved(error))?;
        let engine = self.lp.engine();
        let mut reports = Vec::new();
        for address in addresses {
            let error = match self.open(engine, &address) {
                Ok(socket) => match engine.datagram(socket, protocol, true) {
                    Ok(key) => return Ok(DatagramTransport::new(self.lp.clone(), key)),
                    // The protocol is gone with it.
                    Err(error) => return Err(self.unconnected(vec![report(address, error)])),
                },
                Err(error) => error,
            };
            reports.push(report(address, error));
        }
        Err(self.unconnected(reports))
    }

    async fn addresses(&self) -> Result<Vec<Address>, ResolveError> {
        let (host, port, family) = match self.target.peer() {
            Peer::Addresses(addresses) => return Ok(addresses.clone()),
            Peer::Host { host, port, family } => (host.clone(), port.to_string(), *family),
        };
        let hints = Hints { family, socket_type: SocketType::DATAGRAM, ..Hints::default() };
        let query = AddrInfoQuery {
            host: Some(&host),
            service: Some(&port),
            hints,
            timeout: self.target.times().dns,
        };
        let infos = self.lp.getaddrinfo_with(self.target.chosen_resolver(), &query).await?;
        Ok(infos.into_iter().map(|info| Address::Ip(info.address)).collect())
    }

    fn open(&self, engine: &RustEngine, peer: &Address) -> io::Result<tepal_driver::Descriptor> {
        let local = engine::local_for(peer, self.target.locals())?;
        engine.with_driver(|driver| {
            let socket = driver.open(engine::domain_of(peer)?, Kind::Datagram)?;
            let prepared = (|| {
                for option in self.target.options() {
                    driver.set_option(socket, option)?;
                }
                if let Some(local) = local {
                    driver.bind(socket, local)?;
                }
                driver.connect(socket, peer).map(|_| ())
            })();
            if prepared.is_err() {
                // The first error is the one to tell.
                let _ = driver.close(socket);
            }
            prepared.map(|()| socket)
        })
    }

    fn unresolved(&self, error: ResolveError) -> ConnectError {
        let kind = ProblemKind::of_resolve(&error);
        let cause = ProblemCause::Resolve(error);
        self.failed(CloseKind::ResolveFailed, Phase::Resolve, kind, Some(cause), Vec::new())
    }

    fn unconnected(&self, reports: Vec<AttemptReport>) -> ConnectError {
        let last = reports.last().and_then(|report| report.error.clone());
        let kind = last.as_ref().map_or(ProblemKind::Failed, |error| ProblemKind::of_io(error));
        let cause = last.map(ProblemCause::Io);
        self.failed(CloseKind::ConnectFailed, Phase::Connect, kind, cause, reports)
    }

    fn failed(
        &self,
        close: CloseKind,
        phase: Phase,
        kind: ProblemKind,
        cause: Option<ProblemCause>,
        attempts: Vec<AttemptReport>,
    ) -> ConnectError {
        let (host, port) = match self.target.peer() {
            Peer::Host { host, port, .. } => (Some(host.clone()), Some(*port)),
            Peer::Addresses(addresses) => {
                let first: Option<SocketAddr> = addresses.first().and_then(Address::as_ip);
                (None, first.map(|address| address.port()))
            }
        };
        let problem = Problem {
            phase,
            layer: None,
            kind,
            host,
            port,
            address: attempts.last().map(|report| report.address.clone()),
            local: engine::local_of(
                attempts.last().map(|report| &report.address),
                self.target.locals(),
            ),
            label: self.target.label_text().map(Into::into),
            cause,
            attempts,
            elapsed: self.lp.time().since(self.begun),
            total: None,
            attempt: 1,
        };
        let closed = Closed { problem: Some(Arc::new(problem)), ..Closed::new(close) };
        ConnectError::of(closed)
    }
}

fn report(address: Address, error: io::Error) -> AttemptReport {
    let (error, elapsed) = (Some(Arc::new(error)), Some(Default::default()));
    AttemptReport { address, error, layer: None, elapsed }
}
