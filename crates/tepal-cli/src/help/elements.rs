//! What each element of a chain is, and its options.

const TCP: &str = "\
tcp:HOST:PORT, the wire: a TCP connection

HOST is a name or an address, IPv6 in brackets; PORT a number or a service of /etc/services.

  family=4|6              only addresses of this family
connecting:
  addresses=linear|race   one after another (the default), or the next one after a quarter second
  local=IP[:PORT]         the own address; once for each family
  interface=NAME          only through this network interface
  keepalive               have the kernel ask a quiet peer whether it is there
listening, where HOST may be * for all addresses:
  backlog=COUNT           how many connections may wait to be accepted (1024)
  reuse-port              let several processes listen at the port
  allow=NETWORK           accept only from there, 10.0.0.0/8; several times. Who is behind a
                          proxy in front is not asked
limits, each a time (1.5, 200ms, 10s, 5m, 2h) or none:
  timeout=TIME            from the beginning until the connection stands (none)
  timeout-dns=TIME        for the lookup of the name (15s)
  timeout-connecting=TIME for the connect, all addresses together (30s)
  timeout-handshake=TIME  for the handshake of each layer (30s)
  timeout-idle=TIME       quiet in both directions (none)
  timeout-read=TIME       nothing came (none)
  timeout-write=TIME      something waits to be sent, and the peer takes nothing (none)
  timeout-session=TIME    the whole life of the connection (none)
  timeout-closing=TIME    for the close, while the peer takes nothing (5s)
";

const UDP: &str = "\
udp:HOST:PORT, the wire: datagrams

HOST and PORT are those of tcp. There are no connections, so no end is told. 'connect' sends each
piece of the input as a datagram, or each line where lines are on top, and waits for half a second
behind its end (--after-input). 'listen' sends back (--echo), or passes on (--to udp:HOST:PORT) by
a socket for each client, at most 1024 of them (--max-connections).

  family=4|6              only addresses of this family
  timeout-dns=TIME        for the lookup of the name (15s)
  timeout-idle=TIME       quiet: the run ends (none); behind --to: the client is forgotten (120s)
connecting:
  local=IP[:PORT]         the own address; once for each family
listening, where HOST may be * for all addresses:
  allow=NETWORK           take only what comes from there, 10.0.0.0/8; several times
";

const UNIX: &str = "\
unix:PATH, the wire: a Unix socket

listening (the file is removed at the end; one that nobody listens at is replaced):
  backlog=COUNT           how many connections may wait to be accepted (1024)
  mode=OCTAL              the permissions of the file, 660 (as the process's mask leaves them)
limits, as for tcp: timeout, timeout-connecting, timeout-handshake, timeout-idle, timeout-read,
  timeout-write, timeout-session, timeout-closing
";

const TLS: &str = "\
tls, a layer: TLS 1.2 and 1.3, the client where the chain connects, the server where it listens

  cert=FILE               the own certificates, PEM, the own one first
  key=FILE                their key, unless it is in the same file
  alpn=PROTOCOL           a protocol to agree on; several times, the preferred one first
  min=1.2|1.3, max=1.2|1.3
                          the versions that are spoken
  no-resume               no sessions are kept
  close=wait|notify|none  at the end: wait for the peer's close, only say it, or just leave
  keylog=FILE             append what Wireshark needs; who reads it can read the connections
connecting:
  name=NAME               whom to ask for and to verify; the nearest target below unless given
  ca=FILE                 trust the authorities in this file, and not the system's
  danger-accept-invalid-certificates
                          believe anybody: whoever is on the way can read and change everything
listening:
  client-ca=FILE          clients must show a certificate of these authorities
  client-optional         clients without one are let in too
";

const SOCKS5: &str = "\
socks5:HOST:PORT, a layer: the peer is a SOCKS 5 proxy, and is asked to connect to HOST:PORT

A name is sent as it is: the proxy resolves it.

  user=NAME               with one of the next three
  password-file=FILE      the first line of a file
  password-env=VARIABLE   a variable of the environment
  password=TEXT           here, where each user of this machine can read it
";

const SOCKS4: &str = "\
socks4:HOST:PORT, a layer: the peer is a SOCKS 4 proxy, and is asked to connect to HOST:PORT

A name is sent as it is (SOCKS 4a): the proxy resolves it.

  user=NAME               who asks
";

const HTTP_CONNECT: &str = "\
http-connect:HOST:PORT, a layer: the peer is an HTTP proxy, and is asked for a tunnel to HOST:PORT

  header=\"NAME: VALUE\"    one more line of the request
  user=NAME               with one of the next three
  password-file=FILE      the first line of a file
  password-env=VARIABLE   a variable of the environment
  password=TEXT           here, where each user of this machine can read it
";

const PROXY: &str = "\
proxy, a layer: the PROXY protocol's header, which tells a server whose connection is passed on

connecting: behind 'listen ... --to' it tells of the accepted client, else of this connection
  version=1|2             how it is written (2)
listening: the client's real address is taken from it
  trust=NETWORK           who may send it, 10.0.0.0/8; several times
  danger-trust-all        everybody may, and may lie
  others=close|pass       what becomes of connections from elsewhere (close)
";

const RATE: &str = "\
rate, a layer: holds a rate, in each direction of each connection; what is over it waits

  read=SIZE, write=SIZE   bytes per second: 65536, 64k, 2m
  burst=SIZE              so much may pass at once after a quiet time (1/20 of a second's worth)
  shared                  all connections of the chain together
";

const TAP: &str = "\
tap, a layer: shows what passes where it stands: below tls the records, above it the plain bytes

  file=FILE               written anew, for its owner alone (standard error)
  form=text|pcapng        for people, or for Wireshark (by the file's ending, .pcapng, else text)
";

const LINES: &str = "\
lines, a layer and the top of its chain: whole lines only, whose ends are translated

What is joined to it has lines that end with a newline.

  end=lf|crlf|nul         how lines end here (lf)
  max=SIZE                the longest line; a longer one ends the connection (64k)
";

pub(super) fn about(name: &str) -> Option<&'static str> {
    let texts = [
        ("tcp", TCP),
        ("udp", UDP),
        ("unix", UNIX),
        ("tls", TLS),
        ("socks5", SOCKS5),
        ("socks4", SOCKS4),
        ("http-connect", HTTP_CONNECT),
        ("proxy", PROXY),
        ("rate", RATE),
        ("tap", TAP),
        ("lines", LINES),
    ];
    texts.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::about;
    use crate::chain::{Chain, End};

    /// The options that an element takes, as the error about an unknown one lists them.
    fn options(arguments: &[&str], end: End) -> Vec<String> {
        let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        arguments.last_mut().expect("an element").push_str(",zzzzzzzz");
        let mistake = Chain::parse(&arguments, end).expect_err("no such option").to_string();
        let first = mistake.lines().next().expect("a line");
        let (_, list) = first.split_once("there are ").expect(first);
        list.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn each_option_has_its_line() {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../tepal-layers/tests/data");
        let certificate = format!("tls,cert={data}/server.pem,key={data}/server.key");
        let trusting = format!("tls,ca={data}/ca.pem");
        let cases: [(&str, &[&str], End); 16] = [
            ("tcp", &["tcp:a:1"], End::Connects),
            ("tcp", &["tcp:a:1"], End::Accepts),
            ("udp", &["udp:a:1"], End::Connects),
            ("udp", &["udp:a:1"], End::Accepts),
            ("unix", &["unix:/a"], End::Connects),
            ("unix", &["unix:/a"], End::Accepts),
            ("tls", &["tcp:a:1", &trusting], End::Connects),
            ("tls", &["tcp:a:1", &certificate], End::Accepts),
            ("socks5", &["tcp:a:1", "socks5:b:2"], End::Connects),
            ("socks4", &["tcp:a:1", "socks4:b:2"], End::Connects),
            ("http-connect", &["tcp:a:1", "http-connect:b:2"], End::Connects),
            ("proxy", &["tcp:a:1", "proxy"], End::Connects),
            ("proxy", &["tcp:a:1", "proxy,trust=::1"], End::Accepts),
            ("rate", &["tcp:a:1", "rate,read=1"], End::Connects),
            ("tap", &["tcp:a:1", "tap"], End::Accepts),
            ("lines", &["tcp:a:1", "lines"], End::Accepts),
        ];
        for (name, arguments, end) in cases {
            let text = about(name).expect(name);
            let words: Vec<_> =
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
            for option in options(arguments, end) {
                assert!(words.contains(&option.as_str()), "{name} {option} {end:?}");
            }
        }
    }
}
