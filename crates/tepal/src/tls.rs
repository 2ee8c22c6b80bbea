//! TLS with the platform's trust roots and with certificates in files.
//!
//! [`Tls`] itself opens no file. What it needs from the system is read here, once, when
//! a spec is made; connections read nothing.
//!
//! ```no_run
//! use tepal::{Listen, Target, tls};
//!
//! # fn main() -> std::io::Result<()> {
//! let listen = Listen::on("127.0.0.1:8443").layer(tls::server("cert.pem", "key.pem")?.build()?);
//! let target = Target::address("192.0.2.1:443".parse().unwrap())
//!     .layer(tls::client()?.server_name("www.example").build()?);
//! # let _ = (listen, target);
//! # Ok(())
//! # }
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use tepal_layers::{Certificate, KeyLog, Roots, Tls, TlsBuilder};

/// Settings of a client that trusts whom the platform trusts.
///
/// # Errors
///
/// Those of [`platform_roots`].
pub fn client() -> io::Result<TlsBuilder> {
    Ok(Tls::builder().roots(platform_roots()?))
}

/// Settings of a server with the certificate chain and the key in two PEM files (which may be the
/// same file).
///
/// # Errors
///
/// Those of [`certificate_from_files`].
pub fn server(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<TlsBuilder> {
    Ok(Tls::builder().certificate(certificate_from_files(chain, key)?))
}

/// The authorities that the platform trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. Read
/// once per process.
///
/// # Errors
///
/// `NotFound` if there is none: then no server could be verified.
pub fn platform_roots() -> io::Result<Roots> {
    static ROOTS: OnceLock<Result<Roots, String>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let (roots, _) = Roots::from_der(found.certs.iter().map(|certificate| &**certificate));
        match found.errors.first() {
            _ if !roots.is_empty() => Ok(roots),
            Some(error) => Err(format!("the platform's trust roots cannot be read: {error}")),
            None => Err("the platform has no trust roots (Debian: ca-certificates)".to_owned()),
        }
    };
    let roots = ROOTS.get_or_init(load).clone();
    roots.map_err(|text| io::Error::new(io::ErrorKind::NotFound, text))
}

/// The authorities in a PEM file.
///
/// # Errors
///
/// The file's, and `InvalidInput` for a file without a valid certificate.
pub fn roots_from_file(path: impl AsRef<Path>) -> io::Result<Roots> {
    let path = path.as_ref();
    Roots::from_pem(&read(path)?).map_err(|error| told_of(path, &error.into()))
}

/// A certificate chain, the own certificate first, and its key, of two PEM files.
///
/// # Errors
///
/// The files', and `InvalidInput` if they are malformed or do not belong together. No message
/// holds anything of the key.
pub fn certificate_from_files(
    chain: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> io::Result<Certificate> {
    let (chain, key) = (chain.as_ref(), key.as_ref());
    let pair = Certificate::from_pem(&read(chain)?, &read(key)?);
    pair.map_err(|error| {
        let text = format!("{} and {}: {error}", chain.display(), key.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// A key log file, to which each connection appends what Wireshark needs to decrypt it. Whoever
/// reads it reads the connections.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::sync::Arc;
/// use tepal::tls;
///
/// # let path = std::env::temp_dir().join(format!("tepal-keys-{}", std::process::id()));
/// let log = Arc::new(tls::KeyLogFile::open(&path)?);
/// # std::fs::remove_file(&path)?;
/// let settings = tepal::Tls::builder().key_log(log);
/// # let _ = settings;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    /// Opens the file for appending; a new one only its owner can read.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn open(path: impl AsRef<Path>) -> io::Result<KeyLogFile> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = path.as_ref();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        Ok(KeyLogFile(Mutex::new(file.map_err(|error| told_of(path, &error))?)))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk must not end connections; the log is for people who look at it.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| told_of(path, &error))
}

fn told_of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
