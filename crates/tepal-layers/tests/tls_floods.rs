//! A peer that has shaken hands and then sends without end what costs it little: key updates,
//! warnings, empty records, session tickets. Each is bounded, and the bound is an error.
#![cfg(feature = "tls")]

mod common;

use std::sync::{Arc, Mutex};

use common::{client, server};
use rustls::crypto::cipher::{AeadKey, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, ContentType, KeyLog, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SupportedCipherSuite, Tls13CipherSuite,
};
use tepal_layers::check::Bench;
use tepal_layers::{ErrorKind, Host, Limits, Place, Side, Stack};

/// One direction's secret (RFC 8446, section 7.1), and what may be sent with it.
struct Forger {
    secret: Vec<u8>,
    sequence: u64,
}

fn suite() -> &'static Tls13CipherSuite {
    match TLS13_CHACHA20_POLY1305_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite,
        SupportedCipherSuite::Tls12(_) => unreachable!("its name says 1.3"),
    }
}

impl Forger {
    fn expand(&self, label: &str, len: usize) -> Vec<u8> {
        let label = format!("tls13 {label}");
        let head = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]];
        let mut out = vec![0; len];
        let expander = suite().hkdf_provider.expander_for_okm(&OkmBlock::new(&self.secret));
        expander.expand_slice(&head, &mut out).unwrap();
        out
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let key: [u8; 32] = self.expand("key", 32).try_into().unwrap();
        let iv: [u8; 12] = self.expand("iv", 12).try_into().unwrap();
        let mut encrypter = suite().aead_alg.encrypter(AeadKey::from(key), Iv::new(iv));
        let version = ProtocolVersion::TLSv1_2;
        let plain = OutboundPlainMessage { typ, version, payload: OutboundChunks::Single(payload) };
        let sequence = self.sequence;
        self.sequence += 1;
        encrypter.encrypt(plain, sequence).unwrap().encode()
    }

    /// A key update that asks for one in return; what follows is sent with the next secret.
    fn key_update(&mut self) -> Vec<u8> {
        let record = self.record(ContentType::Handshake, &[24, 0, 0, 1, 1]);
        *self = Forger { secret: self.expand("traffic upd", 32), sequence: 0 };
        record
    }
}

/// Keeps one secret of those that are logged.
#[derive(Debug)]
struct Thief(&'static str, Mutex<Vec<u8>>);

impl KeyLog for Thief {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == self.0 {
            *self.1.lock().unwrap() = secret.to_vec();
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::CryptoProvider {
        cipher_suites: vec![TLS13_CHACHA20_POLY1305_SHA256],
        ..rustls::crypto::ring::default_provider()
    })
}

fn certificates(pem: &'static [u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect()
}

/// Shakes hands between a peer's connection and ours.
fn shake<D>(bench: &mut Bench, peer: &mut rustls::ConnectionCommon<D>) {
    for _ in 0..10 {
        let mut out = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut out).unwrap();
        }
        bench.receive(&out);
        let answer = bench.sent();
        let mut rest = &answer[..];
        while !rest.is_empty() {
            peer.read_tls(&mut rest).unwrap();
            peer.process_new_packets().unwrap();
        }
    }
    assert!(!peer.is_handshaking() && bench.info("tls").is_some(), "{:?}", bench.failure());
}

/// A server of ours whose client forges.
fn forging_client() -> (Bench, Forger) {
    let stack = Stack::new().with(server().build().unwrap());
    let mut bench = Bench::new(&stack, Side::Server).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(include_bytes!("data/ca.pem")));
    let config = ClientConfig::builder_with_provider(provider());
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    let thief = Arc::new(Thief("CLIENT_TRAFFIC_SECRET_0", Mutex::default()));
    config.key_log = Arc::clone(&thief) as Arc<dyn KeyLog>;
    let name = "server.test".try_into().unwrap();
    let mut peer = ClientConnection::new(Arc::new(config), name).unwrap();
    shake(&mut bench, &mut peer);
    let secret = thief.1.lock().unwrap().clone();
    (bench, Forger { secret, sequence: 0 })
}

/// A client of ours whose server forges.
fn forging_server() -> (Bench, Forger) {
    let stack = Stack::new().with(client().build().unwrap());
    let place =
        Place { host: Some(Host::parse("server.test").unwrap()), ..Place::new(Side::Client) };
    let mut bench = Bench::at(&stack, &place, Limits::default()).unwrap();
    bench.settle();
    let hello = bench.sent();
    let config = ServerConfig::builder_with_provider(provider());
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("data/server.key")).unwrap();
    let chain = certificates(include_bytes!("data/server.pem"));
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    // Its own tickets would use up numbers.
    config.send_tls13_tickets = 0;
    let thief = Arc::new(Thief("SERVER_TRAFFIC_SECRET_0", Mutex::default()));
    config.key_log = Arc::clone(&thief) as Arc<dyn KeyLog>;
    let mut peer = ServerConnection::new(Arc::new(config)).unwrap();
    peer.read_tls(&mut &hello[..]).unwrap();
    peer.process_new_packets().unwrap();
    shake(&mut bench, &mut peer);
    let secret = thief.1.lock().unwrap().clone();
    (bench, Forger { secret, sequence: 0 })
}

/// Sends records one by one until the connection fails; how many that took, and the error.
fn flood(
    bench: &mut Bench,
    most: usize,
    mut next: impl FnMut() -> Vec<u8>,
) -> (usize, Option<ErrorKind>) {
    for count in 1..=most {
        bench.receive(&next());
        if let Some(kind) = bench.failure_kind() {
            return (count, Some(kind));
        }
    }
    (most, None)
}

#[test]
fn key_updates_without_end_are_an_error_and_those_between_bytes_are_none() {
    let (mut bench, mut forger) = forging_client();
    bench.sent();
    let (count, kind) = flood(&mut bench, 1000, || forger.key_update());
    assert_eq!(kind, Some(ErrorKind::TlsProtocol), "{:?}", bench.failure());
    assert!(count <= 33, "{count}");
    // Each costs an answer at the most, and the alert.
    assert!(bench.sent().len() < 40 * 64);

    let (mut bench, mut forger) = forging_client();
    for n in 0..200u8 {
        bench.receive(&forger.key_update());
        bench.receive(&forger.record(ContentType::ApplicationData, &[n]));
    }
    assert_eq!(bench.failure(), None);
    assert_eq!(bench.data(), (0..200).collect::<Vec<u8>>());
}

#[test]
fn warnings_without_end_are_an_error() {
    let (mut bench, mut forger) = forging_client();
    // user_canceled is the one that TLS 1.3 still has.
    let (count, kind) = flood(&mut bench, 1000, || forger.record(ContentType::Alert, &[1, 90]));
    assert_eq!(kind, Some(ErrorKind::TlsProtocol), "{:?}", bench.failure());
    assert!(count <= 5, "{count}");
}

#[test]
fn empty_records_without_end_are_an_error_and_those_between_bytes_are_none() {
    let (mut bench, mut forger) = forging_client();
    let (count, kind) =
        flood(&mut bench, 1000, || forger.record(ContentType::ApplicationData, b""));
    assert_eq!(kind, Some(ErrorKind::TlsProtocol), "{:?}", bench.failure());
    assert!(count <= 33, "{count}");
    assert_eq!(bench.data(), b"");

    let (mut bench, mut forger) = forging_client();
    for n in 0..200u8 {
        bench.receive(&forger.record(ContentType::ApplicationData, b""));
        bench.receive(&forger.record(ContentType::ApplicationData, &[n]));
    }
    assert_eq!((bench.failure(), bench.data().len()), (None, 200));
}

#[test]
fn session_tickets_without_end_are_an_error() {
    let (mut bench, mut forger) = forging_server();
    let mut number = 0u8;
    let (count, kind) = flood(&mut bench, 1000, || {
        number = number.wrapping_add(1);
        // A lifetime, an age's offset, a nonce, the ticket, no extensions (RFC 8446, 4.6.1).
        let body =
            [&[0, 0, 14, 16, 0, 0, 0, 0, 1, number, 0, 4][..], &[number; 4], &[0, 0]].concat();
        let head = [4, 0, 0, body.len() as u8];
        forger.record(ContentType::Handshake, &[&head[..], &body].concat())
    });
    assert_eq!(kind, Some(ErrorKind::LimitExceeded), "{:?}", bench.failure());
    assert_eq!(count, 65);
}

#[test]
fn a_record_longer_than_any_may_be_is_an_error_before_it_is_there() {
    for start in [false, true] {
        let mut bench = match start {
            true => forging_client().0,
            false => {
                Bench::new(&Stack::new().with(server().build().unwrap()), Side::Server).unwrap()
            }
        };
        // 16 KiB, a tag and padding are the most; the length says 65,535.
        bench.receive(&[23, 3, 3, 0xff, 0xff]);
        let kind = bench.failure_kind();
        let right = [Some(ErrorKind::TlsProtocol), Some(ErrorKind::TlsHandshake)];
        assert!(right.contains(&kind), "{kind:?}");
        assert!(!bench.chain.wants_read());
    }
}
