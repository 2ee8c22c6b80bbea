//! What `--help` and `help` print. The texts are the command's manual, and tests hold them to what
//! the command understands.

mod elements;

use crate::chain::NAMES;

/// `tepal --help`.
const OVERVIEW: &str = "\
tepal: connections as stacks, from the shell

usage: tepal connect CHAIN...                  join a connection to standard input and output
       tepal listen CHAIN... --to CHAIN...     pass each connection on
       tepal listen CHAIN... --echo            send each what it sends
       tepal listen CHAIN... --exec PROGRAM    run a program for each
       tepal listen CHAIN... --stdio           join the first to standard input and output
       tepal resolve NAME [TYPE...]            tell the addresses of a name, or its records
       tepal help [TOPIC]                      about a command, about chains, about one layer

A CHAIN is a list of arguments from the wire upward, each name:host:port,option=value:

  tepal connect tcp:example.org:443 tls
  tepal connect tcp:proxy.example:1080 socks5:irc.example.org:6697 tls lines,end=crlf
  tepal listen tcp:127.0.0.1:8443 tls,cert=c.pem,key=k.pem --to tcp:127.0.0.1:8080

  -h, --help       this text; behind a command, the text about it
  -V, --version    the version
";

/// `tepal connect --help`.
const CONNECT: &str = "\
usage: tepal connect CHAIN... [OPTION...]
       tepal connect CHAIN... --to CHAIN... | --echo | --exec PROGRAM [ARG...]

Connects, and joins the connection to standard input and output, which may be terminals, pipes,
files or closed. The end of the input is told to the peer, and what the peer still sends is read.
'tepal help chain' tells how a chain is written.

      --retry[=N]          try again, N times or always, when the peer was not reached; the waits
                           grow from half a second to a minute. A connection that stood and was
                           lost is not made anew, since what it carried cannot be read again
      --after-input TIME   once the input has ended: close when nothing has come for TIME
                           (0: at once; default none: wait for the peer's end)
      --after-peer TIME    once the peer has ended: close when the input brings nothing for TIME
                           (default 0.5; none: wait for the end of the input)
      --keep-open          do not tell the peer of the end of the input
      --to CHAIN..., --echo, --exec PROGRAM [ARG...], --pty
                           serve the connection so, as 'listen' does, and not standard input
  -v, --verbose            tell the phases on standard error; twice: the layers too
  -h, --help               this text

A TIME is 1.5 (seconds), 200ms, 10s, 5m or 2h.

";

/// `tepal listen --help`.
const LISTEN: &str = "\
usage: tepal listen CHAIN... [OPTION...] --to CHAIN... | --echo | --stdio
       tepal listen CHAIN... [OPTION...] --exec PROGRAM [ARG...]

Accepts connections, and serves each of them. 'tepal help chain' tells how a chain is written.

      --to CHAIN...        connect to this chain, and pass the bytes in both directions. Without
                           layers they do not leave the kernel. An end of one direction is passed
                           on and does not end the other
      --echo               send back what comes
      --exec PROGRAM [ARG...]
                           run a program whose standard input and output are the connection; all
                           that follows is its arguments, so it stands last. Its environment has
                           the client's address as TEPAL_PEER
      --pty                before --exec: the program gets a terminal of its own, for its standard
                           error too, and not a pair of sockets
      --stdio              accept one connection, and join it to standard input and output, with
                           the options of 'connect': --after-input, --after-peer, --keep-open
      --once               accept one connection, and end with its exit status
      --max-connections N  so many at once at each address; others wait to be accepted
      --drain TIME         how long connections may take to end after the first SIGINT or SIGTERM
                           (default 30; none: for ever); a second signal cuts them off
  -q, --quiet              do not tell where it listens
  -v, --verbose            tell the phases of each connection; twice: the layers too
  -h, --help               this text

Where one of the two sides has lines, the other is cut into lines that end with a newline.

";

/// `tepal resolve --help`.
const RESOLVE: &str = "\
usage: tepal resolve NAME [OPTION...]
       tepal resolve NAME TYPE... [OPTION...]
       tepal resolve -x ADDRESS [OPTION...]

Prints the addresses of a name, one a line, in the order in which a connect would try them: what
'getent ahosts' knows, from the hosts file, the cache or the name servers.

With types it asks the name servers only, and prints records as 'dig' does: name, seconds to keep
it, IN, type, data. Types: A AAAA CNAME MX NS PTR SOA SRV TXT, or TYPE and a number.

  -x, --reverse ADDRESS    the name of an address
  -4, -6                   only addresses of this family
      --short              only the data of records
      --server IP[:PORT]   ask this server, and not the hosts file; may stand several times
      --timeout TIME       give up after this (default: as resolv.conf says, at most 30)
  -v, --verbose            tell on standard error where the answer comes from, and how long it holds
  -h, --help               this text

";

const STATUS: &str = "\
exit status: 0 done, 1 this machine (files, descriptors), 2 usage, 3 the name was not found,
             4 not connected, 5 a handshake failed, 6 the connection was lost, 7 standard input
             or output failed, 8 not listening, 9 the program failed
";

/// `tepal help chain`.
const CHAIN: &str = "\
A chain is a list of arguments from the wire upward. Each is NAME, or NAME:HOST:PORT, with options
behind commas: tls,cert=c.pem,key=k.pem

The wire is the first of them, once:
  tcp:HOST:PORT    a host by name or address; IPv6 in brackets, [::1]; PORT a number or a service
  unix:PATH        the file of a Unix socket
  udp:HOST:PORT    datagrams; above them there are lines alone, each a datagram

Layers follow, the lowest first:
  tls              TLS 1.2 and 1.3
  socks5:HOST:PORT, socks4:HOST:PORT, http-connect:HOST:PORT
                   the peer is a proxy, and is asked for HOST:PORT
  proxy            the PROXY protocol's header: who is at the other end
  rate             so many bytes per second
  tap              shows what passes
  lines            whole lines only, and their ends translated; the last of a chain

A backslash takes the next character as it is, and double quotes what is between them, so that a
path may hold a comma. 'tepal help NAME' tells the options.
";

pub(crate) fn overview() -> String {
    format!("{OVERVIEW}\n{STATUS}")
}

pub(crate) fn connect() -> String {
    format!("{CONNECT}{STATUS}")
}

pub(crate) fn listen() -> String {
    format!("{LISTEN}{STATUS}")
}

pub(crate) fn resolve() -> String {
    format!("{RESOLVE}{STATUS}")
}

pub(crate) fn version() -> String {
    format!("tepal {}\n", env!("CARGO_PKG_VERSION"))
}

/// What there is help about.
pub(crate) fn topics() -> impl Iterator<Item = &'static str> {
    ["connect", "listen", "resolve", "chain", "status"].into_iter().chain(NAMES)
}

pub(crate) fn about(topic: &str) -> Option<String> {
    match topic {
        "connect" => Some(connect()),
        "listen" => Some(listen()),
        "resolve" => Some(resolve()),
        "chain" | "chains" => Some(CHAIN.to_owned()),
        "status" => Some(STATUS.to_owned()),
        name => elements::about(name).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_a_text_that_fits_into_a_terminal() {
        for topic in topics() {
            let text = about(topic).expect(topic);
            assert!(text.ends_with('\n') && text.contains(topic), "{topic}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{topic}: {text}");
        }
        assert_eq!(about("nothing"), None);
        assert!(overview().contains("connect CHAIN"));
    }
}
