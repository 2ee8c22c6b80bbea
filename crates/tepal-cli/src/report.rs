//! What is told on standard error, and how much of it.

use std::fmt::Display;
use std::io::Write;

use tepal::layers::{How, Info, TlsInfo};
use tepal::{Instant, Loop, Transport};

/// How much is told: nothing but failures, phases (`-v`), or layers too (`-vv`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Verbosity(pub(crate) u8);

/// Tells the phases of one connection, each with the time since its begin.
#[derive(Clone)]
pub(crate) struct Report {
    verbosity: Verbosity,
    lp: Loop,
    start: Instant,
    // Which connection of a server.
    number: Option<u64>,
}

/// Writes a line to standard error. If that is closed nobody is left who could be told.
pub(crate) fn say(text: impl Display) {
    let line = format!("tepal: {text}\n");
    // In one piece, so that the lines of two processes do not mix.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

impl Report {
    pub(crate) fn new(lp: &Loop, verbosity: Verbosity, number: Option<u64>) -> Report {
        Report { verbosity, lp: lp.clone(), start: lp.time(), number }
    }

    /// A failure, which is told in any case.
    pub(crate) fn failure(&self, text: impl Display) {
        match self.number {
            None => say(text),
            Some(number) => say(format_args!("[{number}] {text}")),
        }
    }

    /// A phase, told with `-v`.
    pub(crate) fn phase(&self, name: &str, text: impl Display) {
        self.timed(1, name, text);
    }

    /// Something within a phase, told with `-vv`.
    pub(crate) fn detail(&self, name: &str, text: impl Display) {
        self.timed(2, name, text);
    }

    /// Bytes may flow.
    pub(crate) fn established(&self, transport: &Transport) {
        let peer = transport.peer_address();
        let local = transport.local_address();
        match (peer, local) {
            (Ok(peer), Ok(local)) => {
                self.phase("established", format_args!("with {peer}, from {local}"));
            }
            _ => self.phase("established", "with a peer that has gone already"),
        }
    }

    fn timed(&self, from: u8, name: &str, text: impl Display) {
        if self.verbosity < Verbosity(from) {
            return;
        }
        let seconds = self.lp.time().since(self.start).as_secs_f64();
        match self.number {
            None => say(format_args!("{seconds:8.3} {name:<11} {text}")),
            Some(number) => say(format_args!("[{number}] {seconds:8.3} {name:<11} {text}")),
        }
    }

    /// A layer is ready, and this is what it found out.
    pub(crate) fn layer_ready(&self, layer: &str, info: &Info) {
        // Layers without a handshake have nothing to say.
        match info {
            Info::None => self.detail("layer", format_args!("{layer} is ready")),
            info => self.phase("handshake", format_args!("{layer}{}", words(info))),
        }
    }

    pub(crate) fn layer_removed(&self, layer: &str, how: How) {
        self.detail("layer", format_args!("{layer} is gone: {how:?}"));
    }
}

fn words(info: &Info) -> String {
    match info {
        Info::Tls(tls) => words_of_tls(tls),
        Info::Bound(host, port) => format!(": the proxy connects from {host} port {port}"),
        Info::HttpStatus(status) => format!(": status {status}"),
        Info::Request(host, port) => format!(": to {host} port {port}"),
        Info::Proxy(proxy) => match proxy.addresses {
            Some((source, destination)) => {
                format!(": version {}, from {source} to {destination}", proxy.version)
            }
            None => format!(": version {}, no addresses", proxy.version),
        },
        Info::Detected(name) => format!(": {name}"),
        _ => String::new(),
    }
}

fn words_of_tls(tls: &TlsInfo) -> String {
    let mut text = format!(": {} {}", tls.version, tls.cipher);
    if let Some(alpn) = &tls.alpn {
        text.push_str(&format!(", alpn {}", alpn.escape_ascii()));
    }
    if let Some(name) = &tls.server_name {
        text.push_str(&format!(", for {}", name.escape_default()));
    }
    if tls.resumed {
        text.push_str(", resumed");
    }
    text
}
