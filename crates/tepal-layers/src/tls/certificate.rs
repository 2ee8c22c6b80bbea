use std::fmt;
use std::sync::Arc;

use ::rustls::RootCertStore;
use ::rustls::pki_types::pem::PemObject;
use ::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ::rustls::sign::CertifiedKey;

use super::spec::{invalid, provider};
use crate::Error;
#[cfg(doc)]
use crate::ErrorKind;

/// Certificates of authorities that are trusted.
#[derive(Clone)]
pub struct Roots(pub(super) Arc<RootCertStore>);

impl Roots {
    /// The certificates in a PEM file's bytes; other sections are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if there is none, or one is malformed.
    pub fn from_pem(pem: &[u8]) -> Result<Roots, Error> {
        let certificates = CertificateDer::pem_slice_iter(pem);
        let certificates: Result<Vec<_>, _> = certificates.collect();
        let certificates = certificates.map_err(|_| invalid("the trust roots are no valid PEM"))?;
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(|_| invalid("a trust root is no valid certificate"))?;
        }
        match store.is_empty() {
            true => Err(invalid("there is no certificate among the trust roots")),
            false => Ok(Roots(Arc::new(store))),
        }
    }

    /// The certificates given in DER; those that cannot be parsed are passed over and counted, as
    /// platforms' stores hold odd ones.
    pub fn from_der<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> (Roots, usize) {
        let mut store = RootCertStore::empty();
        let owned = certificates.into_iter().map(|der| CertificateDer::from(der.to_vec()));
        let (_, ignored) = store.add_parsable_certificates(owned);
        (Roots(Arc::new(store)), ignored)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that no peer can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.len())
    }
}

/// A certificate chain with its private key, which is never shown.
#[derive(Clone)]
pub struct Certificate(pub(super) Arc<CertifiedKey>);

impl Certificate {
    /// The chain, the own certificate first, and the key (PKCS#8, PKCS#1 or SEC1) of PEM files'
    /// bytes, which may be the same file's.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if one is missing or malformed, or they do
    /// not belong together. The message holds nothing of the key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificate, Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| invalid("the certificate chain is no valid PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| invalid("there is no valid private key in the PEM"))?;
        Certificate::new(chain, key)
    }

    /// The same from DER.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Certificate::from_pem).
    pub fn from_der(chain: &[&[u8]], key: &[u8]) -> Result<Certificate, Error> {
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let key = PrivateKeyDer::try_from(key.to_vec());
        Certificate::new(chain, key.map_err(|_| invalid("the private key is malformed"))?)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Certificate, Error> {
        if chain.is_empty() {
            return Err(invalid("there is no certificate in the chain"));
        }
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| {
            invalid("the private key is of no known kind, or not the certificate's")
        })?;
        Ok(Certificate(Arc::new(key)))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} in its chain)", self.0.cert.len())
    }
}
