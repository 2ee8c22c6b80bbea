//! A proxy for SOCKS 4, 4a and 5 and for HTTP CONNECT, told apart by their first byte.

mod common;
#[path = "proxy/front.rs"]
mod front;

use std::process::ExitCode;

use front::Front;
use tepal::{Address, Detect, EventLoop, HttpConnectServer, Listen, SocksServer, Stack};

const USAGE: &str = "proxy ADDRESS [--password NAME PASSWORD]

Relays for clients of SOCKS 4, 4a and 5 and of HTTP CONNECT at ADDRESS, such as 127.0.0.1:1080.
With --password only for clients that know it.
Prints \"listening on ADDRESS\". SIGINT or SIGTERM drains the connections and ends it.";

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
