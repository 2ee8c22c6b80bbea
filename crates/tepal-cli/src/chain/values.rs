//! What stands in values: hosts and ports, sizes, spans of time, secrets.

use std::time::Duration;

use tepal::EventLoop;
use tepal::names::{AddrInfoQuery, Hints, SocketType};

use super::Mistake;
use super::element::{Element, Word};
use crate::near::near;

/// The host and the port that an element names: `host:port`, `[::1]:port`.
pub(super) fn host_and_port<'a>(
    element: &'a Element,
    what: &str,
) -> Result<(&'a str, u16), Mistake> {
    let usage = format!("{what} is written {}:HOST:PORT", element.name);
    let Some(Word { text, column }) = element.rest.as_ref().filter(|rest| !rest.text.is_empty())
    else {
        return Err(element.mistake_at(element.name.chars().count(), usage));
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            inside.split_once(']').and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?)))
        }
        None => text.rsplit_once(':'),
    }
    .ok_or_else(|| element.mistake_at(*column, usage.clone()))?;
    if host.contains(':') && !text.starts_with('[') {
        let text = format!("an IPv6 address stands in brackets: {}:[{host}]:{port}", element.name);
        return Err(element.mistake_at(*column, text));
    }
    if host.is_empty() {
        return Err(element.mistake_at(*column, format!("the host is missing; {usage}")));
    }
    let at = column + text.chars().count() - port.chars().count();
    match parse_port(port) {
        Some(port) => Ok((host, port)),
        None => {
            let text = format!("'{port}' is no port: a number up to 65535, or a service's name");
            Err(element.mistake_at(at, text))
        }
    }
}

// A number, or a name that /etc/services knows. Digits only: `+80` is a number for the standard
// library.
fn parse_port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    // A literal waits for nobody, and its service is looked up as getaddrinfo(3) does it.
    let query = AddrInfoQuery {
        host: Some("127.0.0.1"),
        service: Some(text),
        hints: Hints { socket_type: SocketType::STREAM, ..Hints::default() },
        timeout: None,
    };
    let event_loop = EventLoop::new().ok()?;
    let infos = event_loop.run_until_complete(event_loop.getaddrinfo(&query)).ok()?.ok()?;
    Some(infos.first()?.address.port())
}

/// A number above zero.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number > 0);
    number.ok_or_else(|| "is a number above zero".to_owned())
}

/// Permissions of a file, in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| "is a file's permissions in octal, such as 660".to_owned())
}

/// Bytes: `1000`, `64k`, `2m`, `1g`, by powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bad = || "is a number of bytes above zero, such as 65536, 64k or 2m".to_owned();
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if lower.ends_with('k') => (digits, 10),
        Some(digits) if lower.ends_with('m') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (lower.as_str(), 0),
    };
    let number: u64 = match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().map_err(|_| bad())?,
        false => return Err(bad()),
    };
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or_else(bad)
}

/// A span: `1.5` seconds, `200ms`, `10s`, `5m`, `2h`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let bad = || "is a time above zero, such as 1.5 (seconds), 200ms, 10s, 5m or 2h".to_owned();
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    let span = Duration::try_from_secs_f64(number * factor).map_err(|_| bad())?;
    // A year is longer than anybody waits, and far from what a clock cannot hold.
    let fine = !span.is_zero() && span <= Duration::from_secs(366 * 86_400);
    if fine { Ok(span) } else { Err(bad()) }
}

/// A span, or `none`: without a limit.
pub(super) fn limit(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "none" => Ok(None),
        text => span(text).map(Some),
    }
}

/// The first line of a file.
pub(super) fn secret_of_file(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("{path}: there is no password in its first line")),
    }
}

pub(super) fn secret_of_variable(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Ok(_) => Err(format!("{name}: the variable is empty")),
        Err(error) => Err(format!(
            "{name}: {}",
            match error {
                std::env::VarError::NotPresent => "there is no such variable",
                std::env::VarError::NotUnicode(_) => "the variable is not UTF-8",
            }
        )),
    }
}

/// An argument as it may be shown: what follows a word like `password=` is made of stars, so that
/// the columns stay what they were.
pub(super) fn without_secrets(argument: &str) -> String {
    // What cannot be printed could move the mark, or the cursor.
    let clean = |text: &str| text.replace(|c: char| c.is_control(), "?");
    let stars = |text: &str| "*".repeat(text.chars().count());
    let mut secret = false;
    let pieces = argument.split_inclusive(',').map(|piece| match piece.split_once('=') {
        Some((key, _)) if key.starts_with("pass") || near(key, ["password"]).is_some() => {
            secret = !key.starts_with("password-");
            match secret {
                true => format!("{}={}", clean(key), stars(&piece[key.len() + 1..])),
                false => clean(piece),
            }
        }
        // A comma in quotes, so the secret goes on.
        None if secret => stars(piece),
        _ => {
            secret = false;
            clean(piece)
        }
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_spans_and_modes_are_read_with_their_units() {
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("2M"), Ok(2 << 20));
        assert_eq!(size("7"), Ok(7));
        for bad in ["", "k", "0", "-1", "1.5k", "1kb", "99999999999g", "1e3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(span("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!((mode("660"), mode("0600")), (Ok(0o660), Ok(0o600)));
        for bad in ["", "888", "1777", "+7", "rw-"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "0", "-1", "inf", "nan", "1d", "1e300", "9999h9"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown_and_moves_nothing() {
        assert_eq!(
            without_secrets("socks5:a:1,user=u,password=geheim,pasword=\"a,b\",file=c"),
            "socks5:a:1,user=u,password=*******pasword=******file=c"
        );
        assert_eq!(without_secrets("tcp:a\x1b:1"), "tcp:a?:1");
    }
}
