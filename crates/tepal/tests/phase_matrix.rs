//! The wire breaks at each place of a conversation: before and within each piece that passes, by a
//! reset, an end, or silence, for the client or the server. Both ends hear of it once, by their
//! deadlines, and what they are told names the phase, the layer and the cause.

mod common;
#[path = "common/cutter.rs"]
mod cutter;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::address;
use cutter::{Cut, End, Fault, Wire};
use reach::{everywhere, run_until};
use tepal::layers::{HttpConnectServer, ProxyAnswer, ProxyRequest};
use tepal::{
    Address, CloseKind, Closed, EventLoop, HttpConnect, Info, Instant, Listen, Phase, ProblemCause,
    ProblemKind, Protocol, ProxyHeader, Server, Socks5, SocksServer, Stack, Target, Timeouts,
    Transport,
};

/// What one end was told.
#[derive(Default)]
struct Told {
    ready: usize,
    hooks: Vec<(&'static str, Closed)>,
    established: bool,
    got: Vec<u8>,
    ends: Vec<(Closed, Instant)>,
    transport: Option<Transport>,
}

type Log = Rc<RefCell<Told>>;

/// What the client does when it has its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Close,
    /// Ends its direction, and waits for the last words.
    WriteEof,
}

struct Party {
    log: Log,
    // None: the server.
    manner: Option<Manner>,
    limits: Timeouts,
}

impl Party {
    fn hook(&self, name: &'static str, closed: &Closed) {
        self.log.borrow_mut().hooks.push((name, closed.clone()));
    }
}

impl Protocol for Party {
    fn connection_made(&mut self, transport: &Transport) {
        transport.set_timeouts(self.limits);
        self.log.borrow_mut().transport = Some(transport.clone());
        if self.manner.is_some() {
            transport.write(b"question");
        }
    }
    fn connection_established(&mut self, _: &Transport) {
        self.log.borrow_mut().established = true;
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let mut log = self.log.borrow_mut();
        log.got.extend_from_slice(data);
        let len = log.got.len();
        drop(log);
        match (self.manner, len) {
            (None, 8) => drop(transport.write(b"answer")),
            (Some(Manner::Close), 6) => transport.close(),
            (Some(Manner::WriteEof), 6) => drop(transport.write_eof()),
            _ => {}
        }
        data.len()
    }
    fn eof_received(&mut self, transport: &Transport) -> bool {
        if self.manner.is_none() {
            transport.write(b" bye");
        }
        false
    }
    fn proxy_request(&mut self, transport: &Transport, layer: &str, _: &ProxyRequest) {
        let answer = ProxyAnswer::Accept([127, 0, 0, 1].into(), 1);
        transport.answer_proxy(layer, answer).expect("it waits");
    }
    fn layer_ready(&mut self, _: &Transport, _: &str, _: &Info) {
        self.log.borrow_mut().ready += 1;
    }
    fn error_dns(&mut self, _: &Transport, closed: &Closed) {
        self.hook("error_dns", closed);
    }
    fn timeout_dns(&mut self, _: &Transport, closed: &Closed) {
        self.hook("timeout_dns", closed);
    }
    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        self.hook("error_connecting", closed);
    }
    fn timeout_connecting(&mut self, _: &Transport, closed: &Closed) {
        self.hook("timeout_connecting", closed);
    }
    fn error_layer(&mut self, _: &Transport, closed: &Closed) {
        self.hook("error_layer", closed);
    }
    fn timeout_handshake(&mut self, _: &Transport, closed: &Closed) {
        self.hook("timeout_handshake", closed);
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let now = transport.event_loop().time();
        self.log.borrow_mut().ends.push((closed.clone(), now));
    }
}

struct Conversation {
    name: &'static str,
    up: Stack,
    down: Stack,
    manner: Manner,
}

fn conversations() -> Vec<Conversation> {
    let (client, server) = layered::tls_pair();
    let secret: fn(&str, &str) -> bool = |name, word| (name, word) == ("me", "secret");
    let socks = Socks5::new("server.test", 443).and_then(|s| s.credentials("me", "secret"));
    let http = HttpConnect::new("server.test", 443).and_then(|h| h.credentials("me", "secret"));
    let source = "192.0.2.7:40000".parse().expect("an address");
    let header = ProxyHeader::new().addresses(source, "192.0.2.1:443".parse().expect("one"));
    let trusting = ProxyHeader::new().trust("127.0.0.0/8").expect("a network");
    let plain = || (Stack::new(), Stack::new());
    let conversation = |name, (up, down), manner| Conversation { name, up, down, manner };
    let tls = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
    vec![
        conversation("plain, closed", plain(), Manner::Close),
        conversation("plain, half closed", plain(), Manner::WriteEof),
        conversation("TLS", tls, Manner::Close),
        conversation(
            "SOCKS and TLS",
            (
                Stack::new().with(socks.expect("a target")).with(client.clone()),
                Stack::new().with(SocksServer::new().auth(secret)).with(server.clone()),
            ),
            Manner::Close,
        ),
        conversation(
            "CONNECT and TLS",
            (
                Stack::new().with(http.expect("a target")).with(client.clone()),
                Stack::new().with(HttpConnectServer::new().auth(secret)).with(server.clone()),
            ),
            Manner::Close,
        ),
        conversation(
            "PROXY and TLS",
            (Stack::new().with(header).with(client), Stack::new().with(trusting).with(server)),
            Manner::Close,
        ),
    ]
}

/// One conversation that is under way.
struct Run {
    what: String,
    cut: Option<Cut>,
    up: Vec<&'static str>,
    client: Log,
    server: Log,
    wire: cutter::Shared,
    // The client's phase and how many of its layers were ready, and when, as the wire broke.
    at_cut: Rc<RefCell<Option<(Phase, usize, Instant)>>>,
    listeners: [Server; 2],
}

fn limits(event_loop: &EventLoop) -> Timeouts {
    // In earnest long enough for the handshakes of many at once on a busy machine.
    let millis = if event_loop.driver_name() == "sim" { 200 } else { 1_500 };
    let span = Some(Duration::from_millis(millis));
    Timeouts { handshake: span, read: span, closing: span, ..Timeouts::default() }
}

fn begin(event_loop: &EventLoop, talk: &Conversation, cut: Option<Cut>) -> Run {
    let limits = limits(event_loop);
    let (client, server) = (Log::default(), Log::default());
    let log = Rc::clone(&server);
    let accept = move |_: &Address| Party { log: Rc::clone(&log), manner: None, limits };
    let listen = Listen::on("127.0.0.1:0").stack(talk.down.clone());
    let listen = listen.handshaking(limits.handshake.expect("set"));
    let listener = event_loop.listen(accept, listen).expect("a port");
    let at_cut = Rc::new(RefCell::new(None));
    let (noted, watched) = (Rc::clone(&at_cut), Rc::clone(&client));
    let on_cut = move || {
        let told = watched.borrow();
        let transport = told.transport.as_ref().expect("it began");
        let now = transport.event_loop().time();
        *noted.borrow_mut() = Some((transport.phase(), told.ready, now));
    };
    let (wire, relay) = Wire::relay(event_loop, address(&listener), cut, on_cut);
    let party = Party { log: Rc::clone(&client), manner: Some(talk.manner), limits };
    let target = Target::address(address(&relay)).stack(talk.up.clone()).timeouts(limits);
    event_loop.connect(party, target);
    let what = format!("{}: {cut:?} on {}", talk.name, event_loop.driver_name());
    let up = talk.up.names().collect();
    Run { what, cut, up, client, server, wire, at_cut, listeners: [listener, relay] }
}

fn finish(event_loop: &EventLoop, runs: Vec<Run>) -> Vec<Run> {
    let logs: Vec<_> =
        runs.iter().flat_map(|run| [Rc::clone(&run.client), Rc::clone(&run.server)]).collect();
    run_until(event_loop, move || logs.iter().all(|log| !log.borrow().ends.is_empty()));
    for run in &runs {
        run.listeners.iter().for_each(Server::close);
        Wire::end(&run.wire);
    }
    runs
}

/// What each end was told of one break, and when.
fn check(event_loop: &EventLoop, run: &Run) {
    let what = &run.what;
    let (client, server) = (run.client.borrow(), run.server.borrow());
    for (end, told) in [("client", &client), ("server", &server)] {
        assert_eq!(told.ends.len(), 1, "{what}: the {end} hears of its end once");
        assert!(told.hooks.len() <= 1, "{what}: {end} {:?}", told.hooks);
        let (closed, _) = &told.ends[0];
        if let Some((name, _)) = told.hooks.first() {
            assert!(!told.established, "{what}: {end} {name} after it was established");
            assert!(closed.layer().is_some(), "{what}: {end}: whose handshake? {closed:?}");
            assert_eq!(*name == "timeout_handshake", closed.kind == CloseKind::HandshakeTimedOut);
        }
        if !told.established && !closed.is_clean() {
            assert_eq!(told.hooks.len(), 1, "{what}: a failed handshake has its hook: {closed:?}");
        }
    }
    let (closed, ended) = &client.ends[0];
    let Some(cut) = run.cut else {
        assert!(closed.is_clean(), "{what}: {closed:?}");
        let expected: &[u8] = if client.got.len() > 6 { b"answer bye" } else { b"answer" };
        assert_eq!((&client.got[..], &server.got[..]), (expected, &b"question"[..]), "{what}");
        return;
    };
    let Some((phase, ready, begun)) = *run.at_cut.borrow() else {
        // In this run the pieces came together, and the place was not reached.
        assert!(closed.is_clean(), "{what}: {closed:?}");
        return;
    };
    let limits = limits(event_loop);
    let most = limits.handshake.zip(limits.closing).map(|(a, b)| a + b).expect("both are set");
    let late = if event_loop.driver_name() == "sim" { 10 } else { 5_000 };
    for (end, ended) in [("client", *ended), ("server", server.ends[0].1)] {
        let took = ended.since(begun);
        assert!(took <= most + Duration::from_millis(late), "{what}: the {end} took {took:?}");
    }
    let tls = run.up.contains(&"tls");
    if closed.is_clean() {
        // It had all it wanted, or the end looked like one: which in TLS no wire can counterfeit.
        let whole = client.got.len() >= 6;
        assert!(whole || (!tls && cut.fault == Fault::Fin), "{what}: {closed:?}");
        assert!(!tls || closed.kind != CloseKind::PeerEof, "{what}: {closed:?}");
        return;
    }
    let problem = closed.problem.as_ref().unwrap_or_else(|| panic!("{what}: {closed:?}"));
    assert!(problem.address.is_some() && problem.attempt == 1, "{what}: {problem}");
    let text = problem.to_string();
    assert!(text.contains("127.0.0.1"), "{what}: {text}");
    match problem.phase {
        Phase::Handshake => {
            let layer = problem.layer.unwrap_or_else(|| panic!("{what}: whose? {problem:?}"));
            let place = run.up.iter().position(|name| *name == layer);
            let place = place.unwrap_or_else(|| panic!("{what}: {layer} is not in the stack"));
            assert!(place >= ready, "{what}: {layer} was ready");
            assert!(text.contains(layer), "{what}: {text}");
            // Pieces before the break may have been under way still.
            assert!(place == ready || phase != Phase::Handshake || place == ready + 1, "{what}");
        }
        Phase::Established => assert!(client.established, "{what}: {problem:?}"),
        other => panic!("{what}: {other:?} {problem:?}"),
    }
    let timed_out = problem.kind == ProblemKind::TimedOut;
    assert!(problem.cause.is_some() || timed_out, "{what}: {problem:?}");
    if cut.victim == End::Server && cut.fault != Fault::Silence {
        // The relay then resets the client too.
        return;
    }
    let kind = closed.kind;
    match cut.fault {
        Fault::Reset => {
            // An alert of ours, or what was under way, may meet the broken wire first.
            let broken = matches!(kind, CloseKind::Reset | CloseKind::BrokenPipe);
            assert!(broken, "{what}: {closed:?}");
            assert!(matches!(problem.cause, Some(ProblemCause::Io(_))), "{what}: {problem:?}");
        }
        Fault::Fin => {
            let cut_off = matches!(kind, CloseKind::HandshakeFailed | CloseKind::TlsTruncated);
            assert!(cut_off && problem.layer.is_some(), "{what}: {closed:?}");
        }
        Fault::Silence => {
            use CloseKind::{ClosingTimedOut, HandshakeTimedOut, ReadTimedOut};
            let late = matches!(kind, HandshakeTimedOut | ReadTimedOut | ClosingTimedOut);
            assert!(late && timed_out, "{what}: {closed:?}");
        }
    }
}

#[test]
fn wherever_the_wire_breaks_both_ends_hear_of_it_in_time_and_why() {
    break_each(|name| !name.contains(" and "));
}

#[test]
fn wherever_the_wire_to_a_proxy_breaks_both_ends_hear_of_it_in_time_and_why() {
    break_each(|name| name.contains(" and "));
}

fn break_each(chosen: fn(&str) -> bool) {
    let total = Rc::new(RefCell::new((0, 0)));
    everywhere(|event_loop| {
        let mut cuts = Vec::new();
        for talk in conversations().iter().filter(|talk| chosen(talk.name)) {
            let whole = finish(event_loop, vec![begin(event_loop, talk, None)]);
            check(event_loop, &whole[0]);
            let pieces = whole[0].wire.borrow().passed;
            assert!(pieces >= 3, "{} has {pieces} pieces", talk.name);
            for at in 0..pieces {
                for half in [false, true] {
                    for victim in [End::Client, End::Server] {
                        for fault in [Fault::Reset, Fault::Fin, Fault::Silence] {
                            cuts.push((talk.name, Cut { at, half, fault, victim }));
                        }
                    }
                }
            }
        }
        // Those that wait for a deadline wait together.
        cuts.sort_by_key(|(_, cut)| cut.fault == Fault::Silence);
        let talks = conversations();
        for batch in cuts.chunks(64) {
            let talk = |name: &str| talks.iter().find(|talk| talk.name == name).expect("it is one");
            let runs =
                batch.iter().map(|(name, cut)| begin(event_loop, talk(name), Some(*cut))).collect();
            for run in finish(event_loop, runs) {
                check(event_loop, &run);
                let mut total = total.borrow_mut();
                total.0 += 1;
                total.1 += usize::from(run.at_cut.borrow().is_some());
            }
        }
    });
    let (tried, broken) = *total.borrow();
    println!("{tried} breaks, {broken} of them reached");
    assert!(broken >= 300 && broken * 10 >= tried * 8, "{broken} of {tried}");
}
