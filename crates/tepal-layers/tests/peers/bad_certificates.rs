//! Certificates that must not be taken, made by OpenSSL: each is refused, with the alert, and no
//! byte of ours leaves.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tepal_layers::check::Pair;
use tepal_layers::{
    Certificate, ErrorKind, Host, Limits, Place, Roots, Side, Stack, Tls, WallClock,
};

use crate::programs::{Folder, all_present, command};

/// The machine's clock, so many seconds off.
#[derive(Debug)]
struct Shifted(i64);

impl WallClock for Shifted {
    fn unix_seconds(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        now.checked_add_signed(self.0)
    }
}

const DAY: i64 = 24 * 3600;
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
const LEAF: &str = "basicConstraints=critical,CA:FALSE\n";
const GOOD: &str = "subjectAltName=DNS:good.test\n";

/// Makes keys and certificates in a folder of its own.
struct Maker(Folder);

impl Maker {
    fn openssl(&self, arguments: &[&str]) {
        let output = command("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {text}");
    }

    fn file(&self, name: &str, suffix: &str) -> String {
        self.0.file(&format!("{name}.{suffix}"))
    }

    /// A certificate by an issuer (its own, if that is its name) with these extensions.
    fn issue(&self, name: &str, issuer: &str, extensions: &str, more: &[&str]) {
        let (key, request) = (self.file(name, "key"), self.file(name, "csr"));
        let kind: &[&str] = match name {
            "short key" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
            _ => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        };
        self.openssl(&[&["genpkey", "-out", &key][..], kind].concat());
        let subject = format!("/CN={}", if name == "no names" { "good.test" } else { name });
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        let written = self.0.write(&format!("{name}.ext"), extensions);
        let (by, by_key, own) =
            (self.file(issuer, "pem"), self.file(issuer, "key"), self.file(name, "pem"));
        let mut arguments = vec!["x509", "-req", "-in", &request, "-out", &own];
        if !extensions.is_empty() {
            arguments.extend(["-extfile", &written]);
        }
        match name == issuer {
            true => arguments.extend(["-signkey", &key]),
            false => arguments.extend(["-CA", &by, "-CAkey", &by_key, "-CAcreateserial"]),
        }
        if !more.contains(&"-days") {
            arguments.extend(["-days", "3650"]);
        }
        self.openssl(&[&arguments[..], more].concat());
    }

    fn pem(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name, "pem")).unwrap()
    }

    /// What a server shows: its own certificate and these.
    fn chain(&self, name: &str, above: &[&str]) -> Certificate {
        let own = std::iter::once(&name).chain(above).flat_map(|name| self.pem(name));
        let key = std::fs::read(self.file(name, "key")).unwrap();
        Certificate::from_pem(&own.collect::<Vec<_>>(), &key).unwrap()
    }
}

/// What came of a handshake: what our client says of the certificate, and whether the server heard
/// anything of the client's secret.
fn shake(roots: &Roots, host: &str, shift: i64, certificate: Certificate) -> Option<ErrorKind> {
    let client = Tls::builder().roots(roots.clone()).clock(Arc::new(Shifted(shift)));
    let server = Tls::builder().certificate(certificate).clock(Arc::new(Shifted(shift)));
    let place = Place { host: Some(Host::parse(host).unwrap()), ..Place::new(Side::Client) };
    let up = Stack::new().with(client.build().unwrap());
    let down = Stack::new().with(server.build().unwrap());
    let mut pair =
        Pair::at((&up, &place), (&down, &Place::new(Side::Server)), Limits::default()).unwrap();
    pair.client.write(b"secret").unwrap();
    pair.run();
    let kind = pair.client.failure_kind();
    if kind.is_some() {
        assert_eq!(pair.server.data(), b"", "what was to be protected has left");
        let told = pair.server.failure_kind();
        assert!(matches!(told, Some(ErrorKind::TlsAlert(_))), "{told:?}");
    } else {
        assert_eq!(pair.server.data(), b"secret");
    }
    kind
}

#[test]
fn twenty_bad_certificates_are_each_refused() {
    if !all_present(&["openssl"]) {
        return;
    }
    let make = Maker(Folder::new("bad-certificates"));
    make.issue("root", "root", CA, &[]);
    make.issue("stranger", "stranger", CA, &[]);
    make.issue("middle", "root", CA, &[]);
    let roots = Roots::from_pem(&make.pem("root")).unwrap();
    let leaf = |more: &str| format!("{LEAF}{more}");
    // The way they are made makes good ones.
    make.issue("good", "root", &leaf(GOOD), &[]);
    assert_eq!(shake(&roots, "good.test", 0, make.chain("good", &[])), None);
    make.issue("behind", "middle", &leaf(GOOD), &[]);
    assert_eq!(shake(&roots, "good.test", 0, make.chain("behind", &["middle"])), None);

    // Names.
    let names = [
        ("no names", "good.test", ""),
        ("another host", "good.test", "subjectAltName=DNS:bad.test\n"),
        ("a host that ends alike", "good.test", "subjectAltName=DNS:verygood.test\n"),
        ("the parent", "good.test", "subjectAltName=DNS:test\n"),
        ("a wildcard one too deep", "a.b.test", "subjectAltName=DNS:*.test\n"),
        ("a wildcard of its own parent", "good.test", "subjectAltName=DNS:*.good.test\n"),
        ("half a wildcard", "good.test", "subjectAltName=DNS:go*.test\n"),
        ("nothing but a wildcard", "test", "subjectAltName=DNS:*\n"),
        ("an address as a name", "127.0.0.1", "subjectAltName=DNS:127.0.0.1\n"),
        ("another address", "127.0.0.1", "subjectAltName=IP:127.0.0.2\n"),
        ("a name for an address", "127.0.0.1", GOOD),
        ("a mail address", "good.test", "subjectAltName=email:me@good.test\n"),
    ];
    let mut cases = 0;
    let mut refused = |what: &str, host: &str, shift: i64, certificate: Certificate| {
        let kind = shake(&roots, host, shift, certificate);
        assert_eq!(kind, Some(ErrorKind::TlsCertificate), "{what}");
        cases += 1;
    };
    for (what, host, extension) in names {
        make.issue(what, "root", &leaf(extension), &[]);
        refused(what, host, 0, make.chain(what, &[]));
    }
    // Time.
    refused("expired", "good.test", 20 * 365 * DAY, make.chain("good", &[]));
    refused("not valid yet", "good.test", -2 * DAY, make.chain("good", &[]));
    make.issue("brief", "root", CA, &["-days", "10"]);
    make.issue("of a brief one", "brief", &leaf(GOOD), &[]);
    refused("an expired issuer", "good.test", 30 * DAY, make.chain("of a brief one", &["brief"]));
    // Issuers.
    make.issue("self", "self", &leaf(GOOD), &[]);
    refused("self-signed", "good.test", 0, make.chain("self", &[]));
    make.issue("foreign", "stranger", &leaf(GOOD), &[]);
    refused("of a stranger", "good.test", 0, make.chain("foreign", &[]));
    refused("with the stranger", "good.test", 0, make.chain("foreign", &["stranger"]));
    refused("without what is between", "good.test", 0, make.chain("behind", &[]));
    make.issue("of a leaf", "good", &leaf(GOOD), &[]);
    refused("of one that may not sign", "good.test", 0, make.chain("of a leaf", &["good"]));
    make.issue("last", "root", &format!("{}\n", CA.replace("TRUE", "TRUE,pathlen:0")), &[]);
    make.issue("beyond", "last", CA, &[]);
    make.issue("too long", "beyond", &leaf(GOOD), &[]);
    refused("a chain too long", "good.test", 0, make.chain("too long", &["beyond", "last"]));
    let limits = format!("{CA}nameConstraints=critical,permitted;DNS:other.test\n");
    make.issue("narrow", "root", &limits, &[]);
    make.issue("outside", "narrow", &leaf(GOOD), &[]);
    refused("outside of its issuer's names", "good.test", 0, make.chain("outside", &["narrow"]));
    // What it is for, and how it is made.
    make.issue("client", "root", &leaf(&format!("{GOOD}extendedKeyUsage=clientAuth\n")), &[]);
    refused("for clients only", "good.test", 0, make.chain("client", &[]));
    make.issue("authority", "root", &format!("{CA}{GOOD}"), &[]);
    refused("an authority's own", "good.test", 0, make.chain("authority", &[]));
    make.issue("old", "root", &leaf(GOOD), &["-sha1"]);
    refused("signed by way of SHA-1", "good.test", 0, make.chain("old", &[]));
    assert!(cases >= 20, "{cases}");
}

// A handshake of many records, and one that no engine should hold.
#[test]
fn a_certificate_of_a_thousand_names_is_good_and_a_chain_of_three_of_them_an_error() {
    if !all_present(&["openssl"]) {
        return;
    }
    let maker = Maker(Folder::new("large-certificates"));
    maker.issue("root", "root", CA, &[]);
    let roots = Roots::from_pem(&maker.pem("root")).unwrap();
    let names = |count: usize| {
        let names: Vec<String> =
            (0..count).map(|number| format!("DNS:host-{number:06}.good.test")).collect();
        format!("{LEAF}subjectAltName={}\n", names.join(","))
    };
    maker.issue("thousand", "root", &names(1000), &[]);
    let certificate = maker.chain("thousand", &["root"]);
    assert!(maker.pem("thousand").len() > 30_000, "more than a record");
    for (host, expected) in [
        ("host-000999.good.test", None),
        ("host-000000.good.test", None),
        ("host-001000.good.test", Some(ErrorKind::TlsCertificate)),
    ] {
        assert_eq!(shake(&roots, host, 0, certificate.clone()), expected, "{host}");
    }
    // More than 64 KiB: the engine holds no longer message, and has no alert for it.
    let certificate = maker.chain("thousand", &["thousand", "thousand", "root"]);
    let client = Tls::builder().roots(roots).server_name("host-000000.good.test");
    let (up, down) = (client.build(), Tls::builder().certificate(certificate).build());
    let (up, down) = (Stack::new().with(up.unwrap()), Stack::new().with(down.unwrap()));
    let mut pair = Pair::new(&up, &down).unwrap();
    pair.client.write(b"secret").unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsHandshake));
    assert_eq!(pair.server.data(), b"");
}
