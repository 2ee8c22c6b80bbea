//! The two sides of a proxied connection.

use std::net::{IpAddr, Ipv4Addr};

use tepal::layers::{Host, ProxyAnswer, ProxyRequest, SocksReply};
use tepal::{Closed, Protocol, Target, Transport};

/// The client's side: waits for what it asks, connects, answers, and joins the two.
#[derive(Default)]
pub(super) struct Front {
    back: Option<Transport>,
}

/// The far side.
struct Back {
    front: Transport,
    layer: String,
}

fn target_of(request: &ProxyRequest) -> Target {
    match &request.host {
        Host::Ip(ip) => Target::address((*ip, request.port).into()),
        // Resolved here, as the client wished who sent it.
        Host::Name(name) => Target::host(name, request.port),
    }
}

impl Protocol for Front {
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        let back = Back { front: transport.clone(), layer: layer.to_owned() };
        self.back = Some(transport.event_loop().connect(back, target_of(request)));
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
        // A client that has gone meanwhile needs no answer.
        let _ = self.front.answer_proxy(&self.layer, ProxyAnswer::Refuse(reply));
    }

    fn error_dns(&mut self, _: &Transport, _: &Closed) {
        let refusal = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
        let _ = self.front.answer_proxy(&self.layer, refusal);
    }
}
