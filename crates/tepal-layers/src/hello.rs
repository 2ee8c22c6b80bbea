//! Reading a ClientHello without being a party: which host it asks for (RFC 6066, section 3) and
//! which protocols it offers (RFC 7301).

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hello {
    /// No TLS handshake.
    Other,
    /// It may be one: not before this many bytes are there.
    Need(usize),
    /// A ClientHello, whole.
    Client {
        /// The host asked for, in lower case.
        server_name: Option<String>,
        /// The protocols offered.
        alpn: Vec<Vec<u8>>,
    },
}

/// A ClientHello is at most this long here; real ones have about 2 KiB.
const MOST: usize = 16 * 1024;

/// Looks at the first bytes of a connection. The handshake message may be spread over records.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    // Of a message that is spread: what the records before had of it.
    let mut before = Vec::new();
    let mut at = 0;
    loop {
        let record = bytes.get(at..).unwrap_or_default();
        // Content type 22, then a version 3.x, then the length of the fragment.
        let fragment = match record {
            [22, 3, 0..=4, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if len == 0 || len > MOST {
                    return Hello::Other;
                }
                let Some(fragment) = rest.get(..len) else { return Hello::Need(at + 5 + len) };
                at += 5 + len;
                fragment
            }
            [] | [22] | [22, 3] | [22, 3, 0..=4] | [22, 3, 0..=4, _] => return Hello::Need(at + 5),
            _ => return Hello::Other,
        };
        let message = match before.is_empty() {
            true => fragment,
            false => {
                before.extend_from_slice(fragment);
                &before
            }
        };
        if let [kind, a, b, c, body @ ..] = message {
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != 1 || len > MOST {
                return Hello::Other;
            }
            if let Some(body) = body.get(..len) {
                return body_of(body).unwrap_or(Hello::Other);
            }
        }
        if before.is_empty() {
            before.extend_from_slice(fragment);
        }
    }
}

// `None` if a length points outside.
fn body_of(mut body: &[u8]) -> Option<Hello> {
    take(&mut body, 2 + 32)?; // version, random
    vector(&mut body, 1)?; // session id
    vector(&mut body, 2)?; // cipher suites
    vector(&mut body, 1)?; // compression methods
    let (mut server_name, mut alpn) = (None, Vec::new());
    if body.is_empty() {
        return Some(Hello::Client { server_name, alpn });
    }
    let mut extensions = vector(&mut body, 2)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut content = vector(&mut extensions, 2)?;
        match kind {
            [0, 0] => {
                let mut names = vector(&mut content, 2)?;
                while !names.is_empty() {
                    let kind = take(&mut names, 1)?;
                    let name = vector(&mut names, 2)?;
                    if kind == [0] && !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                        server_name = Some(String::from_utf8_lossy(name).to_ascii_lowercase());
                    }
                }
            }
            [0, 16] => {
                let mut protocols = vector(&mut content, 2)?;
                while !protocols.is_empty() {
                    alpn.push(vector(&mut protocols, 1)?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(Hello::Client { server_name, alpn })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

// Bytes with their length before them in `width` bytes.
fn vector<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let len = take(bytes, width)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    take(bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let mut sni = vec![0, 0];
        sni.extend((name.len() as u16 + 5).to_be_bytes());
        sni.extend((name.len() as u16 + 3).to_be_bytes());
        sni.push(0);
        sni.extend((name.len() as u16).to_be_bytes());
        sni.extend(name);
        sni.extend([0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
        body.extend((sni.len() as u16).to_be_bytes());
        body.extend(sni);
        let mut message = vec![1, 0, 0, body.len() as u8];
        message.extend(body);
        message
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in message.chunks(size) {
            bytes.extend([22, 3, 1, 0, part.len() as u8]);
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn a_hello_is_read_however_it_is_cut_into_records() {
        let message = hello(b"Example.ORG");
        for size in [1, 3, 50, 200] {
            let bytes = records(&message, size);
            let expected = Hello::Client {
                server_name: Some("example.org".into()),
                alpn: vec![b"h2".to_vec()],
            };
            assert_eq!(read(&bytes), expected);
            for end in 0..bytes.len() {
                let Hello::Need(need) = read(&bytes[..end]) else { panic!("at {end}") };
                assert!(need > end);
            }
        }
    }

    #[test]
    fn other_first_bytes_are_told_at_once() {
        for other in
            [&b"GET / HTTP"[..], b"\x05", b"PROXY", &[22, 4], &[21, 3, 1], &[22, 3, 1, 0, 0]]
        {
            assert_eq!(read(other), Hello::Other, "{other:?}");
        }
    }

    #[test]
    fn no_changed_byte_makes_it_read_outside() {
        let bytes = records(&hello(b"example.org"), 200);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}
