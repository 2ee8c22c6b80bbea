//! What a TLS spec can be set to, seen on connections of the loop: certificates by name and anew,
//! clients' certificates, key logs, protocols, versions of the close.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::sync::{Arc, Mutex};

use layered::{Call, Pair, Seen, ca, certificate, echo, everywhere, tls_client, tls_server};
use tepal::layers::{CloseMode, ErrorKind, KeyLog, TlsBuilder};
use tepal::{CloseKind, EventLoop, Stack, Tls, Transport};

/// A word there and back, and what both sides saw.
fn exchange(event_loop: &EventLoop, client: TlsBuilder, server: &Tls) -> (Seen, Seen) {
    let asks = |transport: &Transport, call: &Call<'_>| {
        match call {
            Call::Established => drop(transport.write(b"word")),
            Call::Data(_) => transport.close(),
            _ => {}
        }
        None
    };
    let up = Stack::new().with(client.build().expect("a client"));
    let down = Stack::new().with(server.clone());
    Pair::connect(event_loop, (up, asks), (down, echo)).run(event_loop)
}

/// The certificate that a client was shown; `None` if it did not take it.
fn shown(event_loop: &EventLoop, name: &str, server: &Tls) -> Option<Vec<u8>> {
    let client = tls_client().server_name(name).resume(false);
    let (seen, _) = exchange(event_loop, client, server);
    if seen.all_tls().is_empty() {
        let error = seen.closed.expect("ended").layer_error.expect("TLS says why");
        assert_eq!(error.kind(), ErrorKind::TlsCertificate, "{name}");
        return None;
    }
    assert_eq!(seen.bytes, b"word");
    seen.tls().peer_certificates.first().cloned()
}

#[test]
fn the_certificate_is_the_one_of_the_host_asked_for() {
    let both = tls_server().certificate(certificate("other")).resume(false);
    let both = both.build().expect("a server");
    everywhere(|event_loop| {
        let first = shown(event_loop, "server.test", &both).expect("it has one for it");
        let second = shown(event_loop, "other.test", &both).expect("and one for that");
        assert_ne!(first, second);
        assert_eq!(shown(event_loop, "a.wild.test", &both), Some(second));
        assert_eq!(shown(event_loop, "nobody.test", &both), None);
    });
}

#[test]
fn certificates_are_replaced_while_connections_stand() {
    everywhere(|event_loop| {
        let server = tls_server().resume(false).build().expect("a server");
        let swapped = server.clone();
        // The first connection stands while they are replaced, and goes on.
        let mut words = 0;
        let asks = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => drop(transport.write(b"one ")),
                Call::Data(_) => {
                    words += 1;
                    match words {
                        1 => {
                            swapped.reload(&[certificate("other")]).expect("another one");
                            transport.write(b"two");
                        }
                        _ => transport.close(),
                    }
                }
                _ => {}
            }
            None
        };
        let up = Stack::new().with(tls_client().build().expect("a client"));
        let down = Stack::new().with(server.clone());
        let (seen, _) = Pair::connect(event_loop, (up, asks), (down, echo)).run(event_loop);
        assert_eq!((&*seen.bytes, seen.kind()), (&b"one two"[..], CloseKind::Local));
        assert_eq!(shown(event_loop, "server.test", &server), None);
        assert!(shown(event_loop, "other.test", &server).is_some());
    });
}

#[test]
fn a_client_shows_its_certificate_and_one_that_need_not_is_let_in_without() {
    let strict = tls_server().client_roots(ca()).build().expect("a server");
    let mild = tls_server().client_roots(ca()).client_certificate_optional();
    let mild = mild.build().expect("a server");
    everywhere(|event_loop| {
        let with = || tls_client().certificate(certificate("client"));
        let (_, server) = exchange(event_loop, with(), &strict);
        assert_eq!(server.tls().peer_certificates.len(), 1);
        let (client, server) = exchange(event_loop, tls_client(), &mild);
        assert!(server.tls().peer_certificates.is_empty() && client.bytes == b"word");
        // One of nobody's is worse than none, also where none is wanted.
        for spec in [&strict, &mild] {
            let stranger = tls_client().certificate(certificate("self"));
            let (client, _) = exchange(event_loop, stranger, spec);
            assert_eq!(client.kind(), CloseKind::TlsAlert, "{:?}", client.closed);
        }
    });
}

#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl KeyLog for Lines {
    fn log(&self, line: &str) {
        self.0.lock().expect("one thread").push(line.to_owned());
    }
}

#[test]
fn both_sides_log_the_same_secrets_when_asked() {
    everywhere(|event_loop| {
        let (near, far) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        let server = tls_server().key_log(Arc::clone(&far) as _).build().expect("a server");
        exchange(event_loop, tls_client().key_log(Arc::clone(&near) as _), &server);
        let sorted = |lines: &Lines| {
            let mut lines = lines.0.lock().expect("one thread").clone();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&near), sorted(&far));
        assert!(sorted(&near).iter().any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")));
    });
}

#[test]
fn a_protocol_is_agreed_on_or_the_handshake_fails_on_both_sides() {
    let server = tls_server().alpn(["h2", "tepal/1"]).build().expect("a server");
    everywhere(|event_loop| {
        let (client, _) = exchange(event_loop, tls_client().alpn(["x", "tepal/1"]), &server);
        assert_eq!(client.tls().alpn.as_deref(), Some(&b"tepal/1"[..]));
        let (client, server) = exchange(event_loop, tls_client().alpn(["x"]), &server);
        let kinds = (client.kind(), server.kind());
        assert_eq!(kinds, (CloseKind::TlsAlert, CloseKind::HandshakeFailed));
    });
}

// S43.
#[test]
fn s43_a_close_waits_for_the_peers_says_so_or_says_nothing_as_it_was_told() {
    let server = tls_server().build().expect("a server");
    everywhere(|event_loop| {
        for (mode, told) in [
            (CloseMode::Wait, CloseKind::PeerClosedLayer),
            (CloseMode::Notify, CloseKind::PeerClosedLayer),
            (CloseMode::None, CloseKind::TlsTruncated),
        ] {
            let (client, server) = exchange(event_loop, tls_client().close(mode), &server);
            assert_eq!(client.kind(), CloseKind::Local, "{mode:?}");
            assert_eq!(server.kind(), told, "{mode:?}: {:?}", server.closed);
        }
    });
}
