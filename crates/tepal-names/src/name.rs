//! Names as people write them and names as DNS carries them.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// A host name that a person or a program asked for, checked and in one form.
///
/// ASCII letters are lower case, other scripts are in their `xn--` form (UTS 46, not transitional,
/// as browsers do it), and a trailing dot has become [`is_absolute`](HostName::is_absolute).
/// Underscores are allowed, since service names use them. IP literals are not host names: ask
/// [`parse_literal`](crate::parse_literal) first.
///
/// ```
/// use tepal_names::{HostName, NameError};
///
/// let name: HostName = "Bücher.Example.".parse()?;
/// assert_eq!(name.as_str(), "xn--bcher-kva.example");
/// assert!(name.is_absolute());
/// assert_eq!("a..b".parse::<HostName>(), Err(NameError::EmptyLabel));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostName {
    // Lower case ASCII without its trailing dot; the root is empty. At most 253 bytes, labels of
    // 1 to 63 bytes.
    text: Box<str>,
    absolute: bool,
}

/// Why a text is no host name. Always the caller's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NameError {
    /// No text at all.
    Empty,
    /// Two dots in a row, or a dot at the start.
    EmptyLabel,
    /// A label is longer than 63 bytes (RFC 1035, section 2.3.4).
    LabelTooLong,
    /// The name is longer than 253 characters, which are 255 bytes in a message.
    NameTooLong,
    /// A character that no host name has: control, space, or one of `%#/:<>?@[\]^|`.
    Character,
    /// A label is no internationalized name by UTS 46.
    Idna,
}

impl HostName {
    /// The name in lower case ASCII, without its trailing dot. The root is the empty text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the name was written with a trailing dot, so that no search domain is appended.
    pub fn is_absolute(&self) -> bool {
        self.absolute
    }

    /// How many dots the name has, not counting the trailing one: what `ndots` counts.
    pub fn dot_count(&self) -> usize {
        self.text.bytes().filter(|&byte| byte == b'.').count()
    }

    /// Whether the name is `domain` or lies below it. `domain` is lower case without outer dots.
    ///
    /// ```
    /// let name: tepal_names::HostName = "Printer.local".parse()?;
    /// assert!(name.is_within("local"));
    /// assert!(!name.is_within("cal"));
    /// # Ok::<(), tepal_names::NameError>(())
    /// ```
    pub fn is_within(&self, domain: &str) -> bool {
        match self.text.strip_suffix(domain) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

impl std::str::FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<HostName, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // The longest text that can still become 253 bytes: every character of a label shrinks to
        // at least a fraction of one Punycode digit, so a generous bound protects the conversion.
        if text.len() > 4 * 256 {
            return Err(NameError::NameTooLong);
        }
        let ascii = if text.is_ascii() {
            let mut lower = text.to_owned();
            lower.make_ascii_lowercase();
            lower
        } else {
            Uts46::new()
                .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
                .map_err(|_| NameError::Idna)?
                .into_owned()
        };
        let (name, absolute) = match ascii.strip_suffix('.') {
            Some(name) => (name, true),
            None => (ascii.as_str(), false),
        };
        if name.is_empty() {
            return if absolute {
                Ok(HostName { text: "".into(), absolute })
            } else {
                Err(NameError::Empty)
            };
        }
        for label in name.split('.') {
            match label.len() {
                0 => return Err(NameError::EmptyLabel),
                1..=63 => {}
                _ => return Err(NameError::LabelTooLong),
            }
        }
        if name.len() > 253 {
            return Err(NameError::NameTooLong);
        }
        if name.bytes().any(is_forbidden) {
            return Err(NameError::Character);
        }
        Ok(HostName { text: name.into(), absolute })
    }
}

/// What no host name holds: controls, space and the delimiters of URLs.
fn is_forbidden(byte: u8) -> bool {
    // Nearly every byte is one of these.
    let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !plain && (byte <= b' ' || byte >= 0x7f || b"%#/:<>?@[\\]^|\"".contains(&byte))
}

/// As it was meant: with the trailing dot if it had one.
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.absolute { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the name is empty",
            NameError::EmptyLabel => "the name has an empty label",
            NameError::LabelTooLong => "a label of the name is longer than 63 bytes",
            NameError::NameTooLong => "the name is longer than 253 characters",
            NameError::Character => "the name has a character that host names do not have",
            NameError::Idna => "the name is not a valid internationalized name",
        })
    }
}

impl std::error::Error for NameError {}

/// A domain name as messages carry it: labels with their lengths, in lower case.
///
/// Any byte may occur in a label. Equality is DNS equality, since the case is gone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DnsName {
    // Length-prefixed labels and the root's zero: 1..=255 bytes.
    wire: Box<[u8]>,
}

impl DnsName {
    /// The longest name, in its form of length-prefixed labels (RFC 1035, section 2.3.4).
    pub const MAX_LEN: usize = 255;

    /// The name of labels from left to right; `None` if one has not 1 to 63 bytes or their sum is
    /// too long.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<DnsName> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
            wire.push(len);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            if wire.len() >= DnsName::MAX_LEN {
                return None;
            }
        }
        wire.push(0);
        Some(DnsName { wire: wire.into() })
    }

    /// `host` followed by `domain`, as a search list builds it. `None` if that is too long.
    pub(crate) fn joined(host: &HostName, domain: &HostName) -> Option<DnsName> {
        DnsName::from_labels(
            host.text
                .split('.')
                .chain(domain.text.split('.'))
                .filter(|label| !label.is_empty())
                .map(str::as_bytes),
        )
    }

    /// The labels, from left to right, without the root's.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.wire[..];
        std::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            if len == 0 {
                return None;
            }
            let (label, tail) = tail.split_at_checked(len as usize)?;
            rest = tail;
            Some(label)
        })
    }

    /// The name's form in messages: length-prefixed labels, then zero.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether the name is `zone` or lies below it.
    pub fn is_within(&self, zone: &DnsName) -> bool {
        let mut rest = &self.wire[..];
        loop {
            if rest == &zone.wire[..] {
                return true;
            }
            match rest.split_first() {
                Some((&len, tail)) if len > 0 => rest = tail.get(len as usize..).unwrap_or(&[]),
                _ => return false,
            }
        }
    }

    /// Whether the name could name a host: letters, digits, hyphens (not first) and underscores.
    ///
    /// Names that come out of a reverse lookup or an alias are checked so before anybody shows or
    /// uses them; glibc's `res_hnok` does the same.
    pub fn is_host_like(&self) -> bool {
        self.wire.len() > 1
            && self.labels().all(|label| {
                label.first() != Some(&b'-')
                    && label
                        .iter()
                        .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            })
    }
}

impl From<&HostName> for DnsName {
    fn from(host: &HostName) -> DnsName {
        let mut wire = Vec::with_capacity(host.text.len() + 2);
        for label in host.text.split('.').filter(|label| !label.is_empty()) {
            // A HostName's labels have 1 to 63 bytes.
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        DnsName { wire: wire.into() }
    }
}

/// Master file form without the last dot: `example.com`, the root as `.`, odd bytes as `\DDD`.
impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.len() <= 1 {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            // Nearly every label is plain text.
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if let (true, Ok(text)) = (label.iter().all(plain), std::str::from_utf8(label)) {
                f.write_str(text)?;
                continue;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", byte as char)?;
                    }
                    0x21..=0x7e => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<String, NameError> {
        text.parse::<HostName>().map(|name| name.to_string())
    }

    #[test]
    fn labels_and_names_have_their_limits() {
        let label = "a".repeat(63);
        assert!(host(&label).is_ok());
        assert_eq!(host(&format!("{label}a")), Err(NameError::LabelTooLong));
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(host(&longest).is_ok());
        assert!(host(&format!("{longest}.")).is_ok());
        assert_eq!(host(&format!("{longest}b")), Err(NameError::NameTooLong));
        assert_eq!(DnsName::from(&longest.parse::<HostName>().unwrap()).as_wire().len(), 255);
        assert_eq!(host(&"x".repeat(100_000)), Err(NameError::NameTooLong));
    }

    #[test]
    fn names_are_folded_and_checked() {
        assert_eq!(host("WWW.Example"), Ok("www.example".into()));
        assert_eq!(host("_sip._tcp.example."), Ok("_sip._tcp.example.".into()));
        assert_eq!(host("faß.example"), Ok("xn--fa-hia.example".into()));
        assert_eq!(host("日本語.example"), Ok("xn--wgv71a119e.example".into()));
        assert_eq!(host("full。width"), Ok("full.width".into()));
        assert_eq!(host("."), Ok(".".into()));
        for (bad, error) in [
            ("", NameError::Empty),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("a b", NameError::Character),
            ("a\0b", NameError::Character),
            ("a\nb", NameError::Character),
            ("a/b", NameError::Character),
            ("user@host", NameError::Character),
            ("\u{fffd}.example", NameError::Idna),
        ] {
            assert_eq!(host(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn a_domain_is_no_mere_suffix() {
        let name: HostName = "a.onion".parse().unwrap();
        assert!(name.is_within("onion"));
        assert!(!"bunion".parse::<HostName>().unwrap().is_within("onion"));
        let name = DnsName::from(&name);
        assert!(name.is_within(&DnsName::from(&"onion".parse().unwrap())));
        assert!(name.is_within(&DnsName::from(&".".parse().unwrap())));
        assert!(!name.is_within(&DnsName::from(&"b.onion".parse().unwrap())));
    }

    #[test]
    fn only_host_like_names_come_out_of_answers() {
        let name = |labels: &[&[u8]]| DnsName::from_labels(labels.iter().copied()).unwrap();
        assert!(name(&[b"a_b", b"Example"]).is_host_like());
        assert!(!name(&[b"-a"]).is_host_like());
        assert!(!name(&[b"a;rm", b"b"]).is_host_like());
        assert!(!name(&[b"\xff"]).is_host_like());
        assert!(!name(&[]).is_host_like());
        assert_eq!(name(&[b"a.b\0\xff"]).to_string(), "a\\.b\\000\\255");
        assert!(DnsName::from_labels([&[0u8; 64][..]]).is_none());
    }
}
