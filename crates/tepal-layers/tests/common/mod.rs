//! Certificates and stacks for the tests of TLS.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::sync::Arc;

use tepal_layers::check::{Bench, Pair};
use tepal_layers::{
    Certificate, Host, Info, LayerSpec, Limits, Place, Residual, Roots, Side, Stack, Tls,
    TlsBuilder, TlsInfo, Turn, WallClock,
};

/// A clock that stands within the test certificates' time.
#[derive(Debug)]
pub(crate) struct FixedClock(pub(crate) u64);

impl WallClock for FixedClock {
    fn unix_seconds(&self) -> Option<u64> {
        Some(self.0)
    }
}

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn ca() -> Roots {
    Roots::from_pem(include_bytes!("../data/ca.pem")).unwrap()
}

pub(crate) fn certificate(name: &str) -> Certificate {
    let (chain, key): (&[u8], &[u8]) = match name {
        "server" => (include_bytes!("../data/server.pem"), include_bytes!("../data/server.key")),
        "other" => (include_bytes!("../data/other.pem"), include_bytes!("../data/other.key")),
        "client" => (include_bytes!("../data/client.pem"), include_bytes!("../data/client.key")),
        _ => (include_bytes!("../data/self.pem"), include_bytes!("../data/self.key")),
    };
    Certificate::from_pem(chain, key).unwrap()
}

pub(crate) fn client() -> TlsBuilder {
    Tls::builder().roots(ca()).clock(Arc::new(FixedClock(NOW)))
}

pub(crate) fn server() -> TlsBuilder {
    Tls::builder().certificate(certificate("server")).clock(Arc::new(FixedClock(NOW)))
}

pub(crate) fn tls_pair(client: TlsBuilder, server: TlsBuilder) -> Pair {
    pair_of(&client.build().unwrap(), &server.build().unwrap())
}

pub(crate) fn pair_of(client: &Tls, server: &Tls) -> Pair {
    let place =
        Place { host: Some(Host::parse("server.test").unwrap()), ..Place::new(Side::Client) };
    let (up, down) = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
    Pair::at((&up, &place), (&down, &Place::new(Side::Server)), Limits::default()).unwrap()
}

pub(crate) fn tls_info(bench: &Bench) -> Arc<TlsInfo> {
    match bench.info("tls") {
        Some(Info::Tls(info)) => info,
        other => panic!("{other:?} {:?}", bench.failure()),
    }
}

pub(crate) fn push(bench: &mut Bench, spec: impl LayerSpec + 'static, residual: Residual) {
    push_at(bench, Arc::new(spec), None, residual);
}

pub(crate) fn push_below(bench: &mut Bench, spec: impl LayerSpec + 'static, below: Option<&str>) {
    push_at(bench, Arc::new(spec), below, Residual::Reject);
}

fn push_at(bench: &mut Bench, spec: Arc<dyn LayerSpec>, below: Option<&str>, residual: Residual) {
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.push(&spec, below, residual, &mut bench.keepsakes, turn).unwrap();
    bench.settle();
}
