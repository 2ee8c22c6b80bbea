//! The layers by their command names.

use tepal::layers::{Group, Untrusted};
use tepal::{Lines, ProxyHeader, RateLimit};

use super::options::Options;
use super::{Chain, Element, End, Mistake, NAMES, Part, proxies, tap, tls};
use crate::near::near;

/// Puts the layer of an element on top of a chain.
pub(super) fn add(chain: &mut Chain, element: &Element, end: End) -> Result<(), Mistake> {
    let mut options = Options::of(element);
    match element.name.as_str() {
        "tls" => tls::add(chain, element, &mut options, end)?,
        "socks5" | "socks4" | "http-connect" => proxies::add(chain, element, &mut options, end)?,
        "proxy" => add_header(chain, element, &mut options, end)?,
        "rate" => add_rate(chain, element, &mut options)?,
        "tap" => tap::add(chain, element, &mut options)?,
        "lines" => add_lines(chain, element, &mut options)?,
        "tcp" | "udp" | "unix" => {
            let text = "the wire comes first, and a chain has one; another chain goes behind --to";
            return Err(element.mistake_of_name(text));
        }
        name => {
            let text = match near(name, NAMES) {
                Some(near) => format!("there is no layer '{name}'; did you mean '{near}'?"),
                None => format!("there is no layer '{name}'; there are {}", NAMES[3..].join(", ")),
            };
            return Err(element.mistake_of_name(text));
        }
    }
    options.finish()
}

/// The same above datagrams, where a line is one of them and has no end.
pub(super) fn add_to_datagrams(
    chain: &mut Chain,
    element: &Element,
    end: End,
) -> Result<(), Mistake> {
    if element.name != "lines" || end == End::Accepts {
        let text = "udp carries datagrams: above it there are lines alone, where it connects";
        return Err(element.mistake_of_name(text));
    }
    no_rest(element)?;
    let mut options = Options::of(element);
    chain.lines = Some(longest_line(&mut options)?);
    options.finish()
}

// One line has to fit into the memory of each connection.
fn longest_line(options: &mut Options<'_>) -> Result<usize, Mistake> {
    Ok(options.size("max")?.unwrap_or(65_536).min(1 << 30) as usize)
}

pub(super) fn no_rest(element: &Element) -> Result<(), Mistake> {
    match &element.rest {
        None => Ok(()),
        Some(rest) => {
            let text = "it takes options only, behind commas";
            Err(element.mistake_at(rest.column, text))
        }
    }
}

fn add_lines(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
) -> Result<(), Mistake> {
    no_rest(element)?;
    let most = longest_line(options)?;
    let ends: [(&str, &[u8]); 3] = [("lf", b"\n"), ("crlf", b"\r\n"), ("nul", b"\0")];
    let delimiter = options.choice("end", &ends)?.unwrap_or(b"\n");
    chain.push(Lines::new(most).delimiter(delimiter));
    chain.lines = Some(most);
    Ok(())
}

fn add_header(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
    end: End,
) -> Result<(), Mistake> {
    no_rest(element)?;
    let mut header = ProxyHeader::new();
    if end == End::Connects {
        if options.choice("version", &[("1", true), ("2", false)])?.unwrap_or(false) {
            header = header.version_1();
        }
        chain.layers.push(Part::Header(header));
        return Ok(());
    }
    let trusted = options.all("trust")?;
    for word in &trusted {
        let wrong = |_| options.wrong(word, "trust", "is an IP address or a network: 10.0.0.0/8");
        header = header.trust(&word.text).map_err(wrong)?;
    }
    if options.flag("danger-trust-all")? {
        header = header.danger_trust_all();
    } else if trusted.is_empty() {
        return Err(element.mistake("say who may send the header: trust=NETWORK"));
    }
    let others = [("close", Untrusted::Close), ("pass", Untrusted::Pass)];
    if let Some(untrusted) = options.choice("others", &others)? {
        header = header.untrusted(untrusted);
    }
    chain.push(header);
    Ok(())
}

fn add_rate(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
) -> Result<(), Mistake> {
    no_rest(element)?;
    let (read, write) = (options.size("read")?, options.size("write")?);
    if read.is_none() && write.is_none() {
        return Err(element.mistake("it needs read=BYTES or write=BYTES, for each second"));
    }
    let burst = options.size("burst")?;
    let mut spec = RateLimit::new();
    if options.flag("shared")? {
        if burst.is_some() {
            return Err(element.mistake("'burst' is of one connection, and not of a shared rate"));
        }
        let group = read.into_iter().fold(Group::new(), Group::read);
        spec = spec.group(&write.into_iter().fold(group, Group::write));
    } else {
        spec = read.into_iter().fold(spec, RateLimit::read);
        spec = write.into_iter().fold(spec, RateLimit::write);
        spec = burst.into_iter().fold(spec, RateLimit::burst);
    }
    chain.push(spec);
    Ok(())
}
