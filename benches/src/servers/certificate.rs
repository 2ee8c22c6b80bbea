//! What the TLS servers show: the tests' certificate, which the load takes as it takes any.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::options::Failure;

pub(super) const CHAIN: &[u8] =
    include_bytes!("../../../crates/tepal-layers/tests/data/server.pem");
pub(super) const KEY: &[u8] = include_bytes!("../../../crates/tepal-layers/tests/data/server.key");

/// The configuration of the rivals, with rustls's defaults: two tickets, as tepal sends.
pub(super) fn server_config() -> Result<Arc<ServerConfig>, Failure> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(CHAIN).collect();
    let key = PrivateKeyDer::from_pem_slice(KEY).map_err(failure)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failure)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(failure)?, key)
        .map_err(failure)?;
    config.ticketer = ring::Ticketer::new().map_err(failure)?;
    Ok(Arc::new(config))
}

pub(super) fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::run(error.to_string())
}
