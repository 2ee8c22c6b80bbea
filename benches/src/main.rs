//! Measurements side by side in one run: CPU time per request of echo servers, and per GiB of relays.
//!
//! `tepal-bench --help` lists the commands. One program holds the runner, the servers and the load;
//! the runner starts itself again for the others, so that each is a process of its own.

#![forbid(unsafe_code)]

mod bulk;
mod cpu;
mod echo;
mod layers;
mod load;
mod micro;
mod options;
mod program;
mod relay;
mod relays;
mod servers;
mod statistics;
mod syscalls;
mod table;
mod tls;

use std::process::ExitCode;

use options::{Failure, Options};

const HELP: &str = "\
usage: tepal-bench COMMAND [OPTIONS]

  echo       CPU time per request of echo servers
               --connections 64,1024  --sizes 64,1024,16384,65536  --pairs 11  --seconds 0.25
               --servers bare-epoll,tokio,tepal   the first is what the others are compared with
               --syscalls                   count system calls per request instead (needs strace)
  tls        CPU time per request of echo servers over TLS, and per handshake
               --loads 64x1024,16x65536,full,resumed  --pairs 11  --seconds 0.25
               --servers bare-tls,tokio-tls,tepal-tls
  relay      CPU time per GiB of relays
               --mib 1024  --pairs 11  --relays bare-copy,bare-splice,tokio,socat,tepal
  micro      costs inside the loop: callbacks, timers, memory of an idle connection
               --rounds 7
  layers     costs of layers without a loop: passive ones, lines, a growing frame
               --rounds 15
  all        echo, tls and relay, with their defaults and with the options of echo and relay

  --write FILE   also puts each table between its markers in FILE

started by the runner:
  serve NAME | serve-relay NAME TARGET | load ADDRESS PID | bulk
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let result = match command.as_str() {
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        "echo" => Options::parse(words, echo::OPTIONS).and_then(|o| echo::run(&o)),
        "tls" => Options::parse(words, tls::OPTIONS).and_then(|o| tls::run(&o)),
        "relay" => Options::parse(words, relay::OPTIONS).and_then(|o| relay::run(&o)),
        "micro" => Options::parse(words, micro::OPTIONS).and_then(|o| micro::run(&o)),
        "layers" => Options::parse(words, layers::OPTIONS).and_then(|o| layers::run(&o)),
        "all" => Options::parse(words, &[echo::OPTIONS, relay::OPTIONS].concat())
            .and_then(|o| echo::run(&o).and_then(|()| tls::run(&o)).and_then(|()| relay::run(&o))),
        "serve" => servers::serve(&words.next().unwrap_or_default()),
        "serve-relay" => {
            relays::serve(&words.next().unwrap_or_default(), &words.next().unwrap_or_default())
        }
        "load" => Options::parse(words, load::OPTIONS).and_then(|o| load::run(&o)),
        "bulk" => Options::parse(words, bulk::OPTIONS).and_then(|o| bulk::run(&o)),
        other => Err(Failure::usage(format!("there is no command {other:?}; try --help"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tepal-bench {command}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
