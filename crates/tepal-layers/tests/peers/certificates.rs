//! The certificates of `tests/data`, for us and, as files, for foreign programs.

use std::path::{Path, PathBuf};

use tepal_layers::{Certificate, Roots, Tls, TlsBuilder};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tepal-layers/tests/data");

/// A file of that folder: `ca.pem`, `server.key`.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The same as an argument.
pub(crate) fn path(name: &str) -> String {
    file(name).into_os_string().into_string().expect("the source folder has a name in UTF-8")
}

pub(crate) fn ca() -> Roots {
    Roots::from_pem(&std::fs::read(file("ca.pem")).unwrap()).unwrap()
}

pub(crate) fn certificate(name: &str) -> Certificate {
    let read = |suffix: &str| std::fs::read(file(&format!("{name}.{suffix}"))).unwrap();
    Certificate::from_pem(&read("pem"), &read("key")).unwrap()
}

/// A client that trusts our authority and wants `localhost`.
pub(crate) fn client() -> TlsBuilder {
    Tls::builder().roots(ca()).server_name("localhost")
}

/// A server with the certificate of `localhost`.
pub(crate) fn server() -> TlsBuilder {
    Tls::builder().certificate(certificate("server"))
}
