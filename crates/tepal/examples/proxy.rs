//! A proxy for SOCKS 4, 4a and 5 and for HTTP CONNECT, told apart by their first byte.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use tepal::layers::{Host, ProxyAnswer, ProxyRequest, SocksReply};
use tepal::{
    Address, Closed, Detect, EventLoop, HttpConnectServer, Listen, Protocol, SocksServer, Stack,
    Target, Transport,
};

const USAGE: &str = "proxy ADDRESS [--password NAME PASSWORD]

Relays for clients of SOCKS 4, 4a and 5 and of HTTP CONNECT at ADDRESS, such as 127.0.0.1:1080,
to IP addresses and localhost. With --password only for clients that know it.
Prints \"listening on ADDRESS\". SIGINT or SIGTERM drains the connections and ends it.";

/// The client's side: waits for what it asks, connects, answers, and joins the two.
#[derive(Default)]
struct Front {
    back: Option<Transport>,
}

/// The far side.
struct Back {
    front: Transport,
    layer: String,
}

fn target_of(request: &ProxyRequest) -> Option<Target> {
    let ip = match &request.host {
        Host::Ip(ip) => *ip,
        Host::Name(name) if name == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Name(_) => return None,
    };
    Some(Target::address((ip, request.port).into()))
}

impl Protocol for Front {
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        let Some(target) = target_of(request) else {
            let refusal = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
            // A client that has gone meanwhile needs no answer.
            let _ = transport.answer_proxy(layer, refusal);
            return;
        };
        let back = Back { front: transport.clone(), layer: layer.to_owned() };
        self.back = Some(transport.event_loop().connect(back, target));
    }

    // The proxy layer has answered and left: from here on bytes pass in the loop alone.
    fn connection_established(&mut self, transport: &Transport) {
        if let Some(back) = &self.back
            && transport.join(back).is_err()
        {
            // The far side has gone meanwhile.
            transport.close();
        }
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.back.iter().for_each(Transport::close);
    }
}

impl Protocol for Back {
    fn connection_established(&mut self, transport: &Transport) {
        let local = transport.local_address().ok().and_then(|address| address.as_ip());
        let local = local.unwrap_or_else(|| (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into());
        // Its bytes are the client's, once that has been answered.
        let answer = ProxyAnswer::Accept(local.ip(), local.port());
        if self.front.answer_proxy(&self.layer, answer).is_err() {
            transport.close();
        }
    }

    // What comes before the client has been answered stays in the transport.
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> usize {
        0
    }

    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        let reply = match closed.error.as_ref().map(|error| error.kind()) {
            Some(std::io::ErrorKind::ConnectionRefused) => SocksReply::ConnectionRefused,
            Some(std::io::ErrorKind::NetworkUnreachable) => SocksReply::NetworkUnreachable,
            _ => SocksReply::HostUnreachable,
        };
        let _ = self.front.answer_proxy(&self.layer, ProxyAnswer::Refuse(reply));
    }
}

fn stack(password: Option<(String, String)>) -> Stack {
    let (mut socks, mut connect) = (SocksServer::new(), HttpConnectServer::new());
    if let Some((name, password)) = password {
        let good = move |n: &str, p: &str| (n, p) == (name.as_str(), password.as_str());
        socks = socks.auth(good.clone());
        connect = connect.auth(good);
    }
    let socks = Stack::new().with(socks);
    // A request of HTTP begins with a letter, one of SOCKS with its version.
    let detect = Detect::new()
        .prefix("socks5", b"\x05", socks.clone())
        .prefix("socks4", b"\x04", socks)
        .otherwise("http", Stack::new().with(connect));
    Stack::new().with(detect)
}

fn main() -> ExitCode {
    common::main(
        USAGE,
        |arguments| {
            let address = arguments.address("ADDRESS")?;
            let password = match arguments.option().as_deref() {
                None => None,
                Some("--password") => Some((arguments.text("NAME")?, arguments.text("PASSWORD")?)),
                Some(option) => return Err(format!("there is no option {option}")),
            };
            Ok((address, password))
        },
        |(address, password)| {
            let event_loop = EventLoop::new()?;
            let listen = Listen::from(address).stack(stack(password));
            let server = event_loop.listen(|_: &Address| Front::default(), listen)?;
            common::announce(&server)?;
            common::serve(&event_loop, server)?;
            Ok(())
        },
    )
}
