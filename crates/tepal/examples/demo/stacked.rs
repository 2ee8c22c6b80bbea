//! A stack to a peer that is not ours: TCP / SOCKS5 / TLS / rate limit / lines. The peer is Python's
//! ssl. TLS begins by STARTTLS, ends by its own goodbye, and TCP goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tepal::layers::Roots;
use tepal::{
    Address, Command, EventLoop, Info, Late, LayerSpec, Lines, Listen, Loop, Process,
    ProcessProtocol, Protocol, RateLimit, Residual, Socks5, SocksServer, Stdio, Target, Tls,
    Transport,
};

use super::front::Front;
use super::moving::ThatDay;
use super::{Latch, Outcome, check, wrong};

/// A line server that begins and ends TLS when it is told to.
const PEER: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
plain, _ = listener.accept()
stream = plain
def line():
    text = b''
    while not text.endswith(b'\\n'):
        byte = stream.recv(1)
        if not byte:
            sys.exit(0)
        text += byte
    return text
while True:
    said = line()
    way = stream.version() if stream is not plain else 'plain'
    stream.sendall(way.encode() + b' ' + said)
    if said == b'STARTTLS\\n':
        stream = context.wrap_socket(plain, server_side=True)
    elif said == b'ENDTLS\\n':
        plain = stream = stream.unwrap()
";

/// What the client says, in order; the answers come back with how the peer got each.
const SAYS: [&str; 5] = ["hello", "STARTTLS", "secret", "ENDTLS", "goodbye"];

struct Talker {
    tls: Arc<dyn LayerSpec>,
    heard: Rc<RefCell<Vec<String>>>,
    notes: Rc<RefCell<Vec<String>>>,
    done: Rc<Latch>,
}

impl Talker {
    fn say(&self, transport: &Transport) {
        match SAYS.get(self.heard.borrow().len()) {
            Some(text) => drop(transport.write(text.as_bytes())),
            None => transport.close(),
        }
    }
}

impl Protocol for Talker {
    fn connection_established(&mut self, transport: &Transport) {
        self.say(transport);
    }

    // One call is one line, without its end.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let line = String::from_utf8_lossy(data).into_owned();
        let said = line.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heard.borrow_mut().push(line);
        let changed = match said.as_str() {
            "STARTTLS" => {
                transport.push_layer_with(&self.tls, Some("rate"), Residual::Reject).map(drop)
            }
            "ENDTLS" => {
                transport.pop_layer(Some("tls"), Duration::from_secs(5), Late::Close).map(drop)
            }
            _ => Ok(()),
        };
        if let Err(error) = changed {
            self.notes.borrow_mut().push(error.to_string());
            transport.abort();
        }
        self.say(transport);
        data.len()
    }

    fn layer_ready(&mut self, transport: &Transport, layer: &str, info: &Info) {
        if let ("tls", Info::Tls(_)) = (layer, info) {
            self.notes.borrow_mut().push(transport.layers().join(" / "));
        }
    }

    fn connection_lost(&mut self, _: &Transport, closed: &tepal::Closed) {
        self.notes.borrow_mut().push(closed.to_string());
        self.done.count_down();
    }
}

/// Hears the peer's port.
struct Port {
    port: Rc<RefCell<String>>,
    told: Rc<Latch>,
    gone: Rc<Latch>,
}

impl ProcessProtocol for Port {
    fn pipe_data_received(&mut self, _: &Process, _: i32, data: &[u8]) -> usize {
        self.port.borrow_mut().push_str(&String::from_utf8_lossy(data));
        if data.ends_with(b"\n") {
            self.told.count_down();
        }
        data.len()
    }

    fn connection_lost(&mut self, _: &Process) {
        self.told.count_down();
        self.gone.count_down();
    }
}

pub(super) fn run(event_loop: &EventLoop) -> std::io::Result<Outcome> {
    let lp = (**event_loop).clone();
    event_loop.run_until_complete(stacked(lp))
}

async fn stacked(lp: Loop) -> Outcome {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../tepal-layers/tests/data/");
    let (port, told, gone) = (Rc::default(), Latch::new(1), Latch::new(1));
    let command = Command {
        program: "python3".into(),
        args: ["-c", PEER, &format!("{data}server.pem"), &format!("{data}server.key")]
            .map(Into::into)
            .to_vec(),
        stdout: Stdio::Piped,
        ..Command::default()
    };
    let protocol = Port { port: Rc::clone(&port), told: Rc::clone(&told), gone: Rc::clone(&gone) };
    if let Err(error) = lp.subprocess(protocol, command) {
        return Ok(format!("left out: python3, which is the peer, does not start ({error})"));
    }
    told.wait().await;
    let port: u16 = port.borrow().trim().parse().map_err(|_| "python3 tells no port".to_owned())?;

    let listen = Listen::on("127.0.0.1:0").layer(SocksServer::new());
    let proxy = lp.listen(|_: &Address| Front::default(), listen).map_err(wrong)?;
    let roots = Roots::from_pem(include_bytes!("../../../tepal-layers/tests/data/ca.pem"));
    let tls = Tls::builder().roots(roots.map_err(wrong)?).server_name("server.test");
    let tls = tls.clock(Arc::new(ThatDay)).build().map_err(wrong)?;
    let (heard, notes, done) = (Rc::default(), Rc::default(), Latch::new(1));
    let talker = Talker {
        tls: Arc::new(tls),
        heard: Rc::clone(&heard),
        notes: Rc::clone(&notes),
        done: Rc::clone(&done),
    };
    let proxy_at = proxy.local_addresses()[0].as_ip().ok_or("the proxy has no address")?;
    let target = Target::address(proxy_at)
        .layer(Socks5::new("127.0.0.1", port).map_err(wrong)?)
        .layer(RateLimit::new().write(1 << 20))
        .layer(Lines::new(1000));
    lp.connect(talker, target);
    done.wait().await;
    // The relay and the peer end with it.
    proxy.drain(Duration::from_secs(5)).await;
    gone.wait().await;

    let (heard, notes) = (heard.borrow(), notes.borrow());
    let expected =
        ["plain hello", "plain STARTTLS", "TLSv1.3 secret", "TLSv1.3 ENDTLS", "plain goodbye"];
    check(*heard == expected, || format!("the peer answered {heard:?}; {notes:?}"))?;
    check(*notes == ["tls / rate / lines", "closed"], || format!("{notes:?}"))?;
    Ok("TCP / SOCKS5 / TLS / rate / lines to Python's ssl: STARTTLS, and TLS closed with TCP kept"
        .to_owned())
}
