//! The layers that ask a proxy for the rest of the way.

use tepal::{HttpConnect, Socks4, Socks5};

use super::options::Options;
use super::{Chain, Element, End, Mistake, values};

pub(super) fn add(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
    end: End,
) -> Result<(), Mistake> {
    if end == End::Accepts {
        let text = "it asks a proxy, so it belongs into a chain that connects, behind --to";
        return Err(element.mistake_of_name(text));
    }
    let (host, port) = values::host_and_port(element, "where the proxy is to connect to")?;
    let wrong = |error: tepal::layers::Error| element.mistake(error.message().to_owned());
    match element.name.as_str() {
        "socks4" => {
            let mut spec = Socks4::new(host, port).map_err(wrong)?;
            if let Some(word) = options.one("user")? {
                spec = spec.user_id(&word.text).map_err(wrong)?;
            }
            chain.push(spec);
        }
        "socks5" => {
            let mut spec = Socks5::new(host, port).map_err(wrong)?;
            if let Some((user, password)) = options.credentials()? {
                spec = spec.credentials(&user, &password).map_err(wrong)?;
                chain.wire.label = Some(user);
            }
            chain.push(spec);
        }
        _ => {
            let mut spec = HttpConnect::new(host, port).map_err(wrong)?;
            for word in options.all("header")? {
                let (name, value) = word.text.split_once(':').ok_or_else(|| {
                    options.wrong(word, "header", "is written header=\"Name: value\"")
                })?;
                spec = spec.header(name.trim(), value.trim()).map_err(wrong)?;
            }
            if let Some((user, password)) = options.credentials()? {
                spec = spec.credentials(&user, &password).map_err(wrong)?;
                chain.wire.label = Some(user);
            }
            chain.push(spec);
        }
    }
    Ok(())
}
