use std::net::IpAddr;

use super::base64;
use super::head::{HeadReader, is_token, is_version, malformed};
use crate::handshake::{Handshake, Handshaking, Secret, Step};
use crate::{Error, ErrorKind, Host, Info, Layer, LayerSpec, Site};

/// More answers of the kind "wait" (1xx) than this are no help.
const MOST_INTERIM: u32 = 16;

/// A HTTP proxy's client (CONNECT). Command name `http-connect`.
///
/// Any 2xx is success, and what stands behind its head belongs to the connection, whatever the
/// head says of a length. Any other status is [`HttpStatus`](ErrorKind::HttpStatus), told at the
/// end of the head: no body is waited for. The status line is read strictly; the head has at most
/// 64 KiB and 100 fields. The layer leaves the chain when it is done.
#[derive(Clone, Debug)]
pub struct HttpConnect {
    host: Host,
    port: u16,
    credentials: Option<Secret>,
    headers: Vec<(String, Secret)>,
}

impl HttpConnect {
    /// To `host:port` by way of the proxy below.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the host is none.
    pub fn new(host: &str, port: u16) -> Result<HttpConnect, Error> {
        Ok(HttpConnect { host: Host::parse(host)?, port, credentials: None, headers: Vec::new() })
    }

    /// A user name and a password for the proxy, sent with the first request (Basic, RFC 7617).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the name holds a colon, or one of them a
    /// control character.
    pub fn credentials(mut self, username: &str, password: &str) -> Result<HttpConnect, Error> {
        let bad = |text: &str| text.chars().any(char::is_control);
        if username.contains(':') || bad(username) || bad(password) {
            let message = "Basic credentials have no colon in the name and no control character";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        let plain = Secret::new([username, ":", password].concat());
        self.credentials = Some(Secret::new(base64::encode(plain.expose().as_bytes())));
        Ok(self)
    }

    /// One more field of the request. Its value counts as a secret and is not shown.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the name is no token, or the value holds
    /// anything but printable ASCII and tabs, so that nothing can be smuggled in.
    pub fn header(mut self, name: &str, value: &str) -> Result<HttpConnect, Error> {
        let fine = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
        if !is_token(name) || !value.bytes().all(fine) {
            let message = "a field's name is a token and its value printable ASCII";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        self.headers.push((name.to_owned(), Secret::new(value)));
        Ok(self)
    }

    fn request(&self) -> Secret {
        let host = match &self.host {
            Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        let port = self.port;
        let start = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        let mut pieces = vec![start.as_str()];
        if let Some(credentials) = &self.credentials {
            pieces.extend(["Proxy-Authorization: Basic ", credentials.expose(), "\r\n"]);
        }
        for (name, value) in &self.headers {
            pieces.extend([name, ": ", value.expose(), "\r\n"]);
        }
        pieces.push("\r\n");
        // In one piece at once: nothing is left behind in a smaller place.
        Secret::new(pieces.concat())
    }
}

impl LayerSpec for HttpConnect {
    fn name(&self) -> &'static str {
        Client::NAME
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let (request, head) = (Some(self.request()), HeadReader::default());
        Ok(Box::new(Handshaking::new(Client { request, head, interim: 0 })))
    }

    fn target(&self) -> Option<(&Host, u16)> {
        Some((&self.host, self.port))
    }
}

struct Client {
    request: Option<Secret>,
    head: HeadReader,
    interim: u32,
}

impl Handshake for Client {
    const NAME: &'static str = "http-connect";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        if let Some(request) = self.request.take() {
            out.extend(request.expose().bytes());
            return Ok(Step::Used(0));
        }
        let check = |line: &str| status(line).map(|_| ());
        let Some((lines, used)) = self.head.read(bytes, check)? else {
            return Ok(Step::Need(bytes.len() + 1));
        };
        let code = status(lines.first().map(String::as_str).unwrap_or_default())?;
        match code {
            // "Switching protocols" would be an answer to a question that was not asked.
            101 => Err(malformed("a status that was not asked for")),
            100..=199 => {
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    let message = "the proxy answers without end that it has no answer yet";
                    return Err(Error::remote(ErrorKind::LimitExceeded, message));
                }
                self.head = HeadReader::default();
                Ok(Step::Used(used))
            }
            200..=299 => Ok(Step::Done(used, Info::HttpStatus(code))),
            407 => {
                let message = "the proxy asks for credentials, or for others (407)";
                Err(Error::remote(ErrorKind::HttpStatus(code), message))
            }
            _ => {
                let message = format!("the proxy refused with status {code}");
                Err(Error::remote(ErrorKind::HttpStatus(code), message))
            }
        }
    }
}

/// `HTTP/1.1 200`, and then a space and any text, or nothing.
fn status(line: &str) -> Result<u16, Error> {
    let bad = || malformed("a status line that is none");
    let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
    let code = rest.split(' ').next().unwrap_or_default();
    if !is_version(version) || code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    code.parse().ok().filter(|code| (100..=599).contains(code)).ok_or_else(bad)
}
