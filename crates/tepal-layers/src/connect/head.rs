use crate::scan::find_byte;
use crate::{Error, ErrorKind};

/// A head's most bytes: proxies' pages of errors fit many times.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// A head's most fields.
const MOST_FIELDS: usize = 100;

/// Reads a head line by line, strictly: each line ends with CR LF, no field is folded, no byte is
/// a control. So a head means the same to us as to anybody else, however it was cut.
#[derive(Default)]
pub(super) struct HeadReader {
    // Bytes of whole lines, and how far the line after them has been searched for its end.
    used: usize,
    scanned: usize,
    lines: Vec<String>,
}

impl HeadReader {
    /// The lines of the head and its length, once it is whole; the same bytes with more behind
    /// them are given until then. `check` sees the first line as soon as it is there.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        check: impl Fn(&str) -> Result<(), Error>,
    ) -> Result<Option<(Vec<String>, usize)>, Error> {
        loop {
            let from = self.used.max(self.scanned);
            let unseen = bytes.get(from..bytes.len().min(MOST_BYTES)).unwrap_or_default();
            let Some(at) = find_byte(unseen, b'\n') else {
                self.scanned = from + unseen.len();
                return match self.scanned >= MOST_BYTES {
                    true => Err(too_long()),
                    false => Ok(None),
                };
            };
            let line = bytes.get(self.used..from + at).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or_else(|| malformed("a line without CR"))?;
            self.used = from + at + 1;
            let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            if line.iter().any(control) {
                return Err(malformed("a control character"));
            }
            let text = String::from_utf8_lossy(line).into_owned();
            if self.lines.is_empty() {
                check(&text)?;
            } else if line.is_empty() {
                return Ok(Some((std::mem::take(&mut self.lines), self.used)));
            } else if self.lines.len() > MOST_FIELDS {
                return Err(too_long());
            } else if !is_field(&text) {
                return Err(malformed("a line that is no field"));
            }
            self.lines.push(text);
        }
    }
}

/// The value of the first field of that name, without white space around it.
pub(super) fn field<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines.iter().skip(1).find_map(|line| {
        let (each, value) = line.split_once(':')?;
        each.eq_ignore_ascii_case(name).then(|| value.trim_matches([' ', '\t']))
    })
}

/// `HTTP/1.0` or `HTTP/1.1`.
pub(super) fn is_version(text: &str) -> bool {
    matches!(text, "HTTP/1.0" | "HTTP/1.1")
}

/// A field's name (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fine)
}

fn is_field(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| is_token(name))
}

pub(super) fn malformed(what: &'static str) -> Error {
    Error::remote(ErrorKind::Malformed, format!("the peer's head has {what}"))
}

fn too_long() -> Error {
    Error::remote(ErrorKind::LimitExceeded, "the peer's head is longer than allowed")
}
