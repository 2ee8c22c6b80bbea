use std::sync::{Arc, Mutex, PoisonError};

use ::rustls::SignatureScheme;
use ::rustls::client::{ResolvesClientCert, verify_server_name};
use ::rustls::pki_types::ServerName;
use ::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use ::rustls::sign::CertifiedKey;

/// Our certificates, which can be replaced while connections run.
#[derive(Debug)]
pub(super) struct Resolver {
    // The first one is for clients that ask for no name, or for one that no certificate has.
    keys: Mutex<Arc<[Arc<CertifiedKey>]>>,
}

impl Resolver {
    pub(super) fn new(keys: Vec<Arc<CertifiedKey>>) -> Resolver {
        Resolver { keys: Mutex::new(keys.into()) }
    }

    pub(super) fn replace(&self, keys: Vec<Arc<CertifiedKey>>) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    fn keys(&self) -> Arc<[Arc<CertifiedKey>]> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.keys();
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let named = name.filter(|_| keys.len() > 1).and_then(|name| {
            // Of several for one name, one that the client can verify.
            keys.iter().filter(|key| is_for(key, &name)).find(usable)
        });
        named.or_else(|| keys.iter().find(usable)).or(keys.first()).cloned()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let keys = self.keys();
        keys.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.keys().is_empty()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().and_then(|own| ParsedCertificate::try_from(own).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
