//! The layer `tls`: who we are, whom we believe, and how.

use std::sync::Arc;

use tepal::Tls;
use tepal::layers::{CloseMode, TlsBuilder, TlsVersion};
use tepal::tls::{self, KeyLogFile};

use super::layers::no_rest;
use super::options::Options;
use super::{Chain, Element, End, Mistake, Place};

pub(super) fn add(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
    end: End,
) -> Result<(), Mistake> {
    no_rest(element)?;
    let mut builder = certificate(Tls::builder(), element, options, end)?;
    builder = match end {
        End::Connects => client(builder, chain, element, options)?,
        End::Accepts => server(builder, element, options)?,
    };
    let alpn = options.all("alpn")?;
    builder = builder.alpn(alpn.iter().map(|word| word.text.as_bytes().to_vec()));
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let (least, most) = (options.choice("min", &versions)?, options.choice("max", &versions)?);
    builder = least.into_iter().fold(builder, TlsBuilder::min_version);
    builder = most.into_iter().fold(builder, TlsBuilder::max_version);
    builder = builder.resume(!options.flag("no-resume")?);
    let modes =
        [("wait", CloseMode::Wait), ("notify", CloseMode::Notify), ("none", CloseMode::None)];
    builder = builder.close(options.choice("close", &modes)?.unwrap_or_default());
    if let Some(path) = options.path("keylog")? {
        let log = KeyLogFile::open(path).map_err(|error| of_file(element, &error))?;
        builder = builder.key_log(Arc::new(log));
    }
    chain.push(builder.build().map_err(|error| element.mistake(error.message().to_owned()))?);
    Ok(())
}

fn of_file(element: &Element, error: &std::io::Error) -> Mistake {
    element.mistake(error.to_string()).of_machine()
}

fn certificate(
    builder: TlsBuilder,
    element: &Element,
    options: &mut Options<'_>,
    end: End,
) -> Result<TlsBuilder, Mistake> {
    match (options.path("cert")?, options.path("key")?) {
        (Some(chain), key) => {
            let key = key.unwrap_or_else(|| chain.clone());
            let pair = tls::certificate_from_files(chain, key);
            Ok(builder.certificate(pair.map_err(|error| of_file(element, &error))?))
        }
        (None, Some(_)) => Err(element.mistake("key=FILE needs cert=FILE")),
        (None, None) if end == End::Accepts => {
            Err(element.mistake("a server needs cert=FILE, and key=FILE unless both are in one"))
        }
        (None, None) => Ok(builder),
    }
}

fn client(
    mut builder: TlsBuilder,
    chain: &Chain,
    element: &Element,
    options: &mut Options<'_>,
) -> Result<TlsBuilder, Mistake> {
    let insecure = options.flag("danger-accept-invalid-certificates")?;
    let ca = options.path("ca")?;
    let roots = match (insecure, ca) {
        (true, Some(_)) => {
            let text = "'ca' says whom to believe, 'danger-accept-invalid-certificates' everybody";
            return Err(element.mistake(text));
        }
        (true, None) => None,
        (false, Some(path)) => Some(tls::roots_from_file(path)),
        (false, None) => Some(tls::platform_roots()),
    };
    builder = match roots {
        None => builder.danger_accept_invalid_certificates(),
        Some(roots) => builder.roots(roots.map_err(|error| of_file(element, &error))?),
    };
    match options.one("name")? {
        Some(name) => builder = builder.server_name(&name.text),
        None if matches!(chain.wire.place, Place::Unix(_)) && chain.layers.is_empty() => {
            let text = "over a Unix socket it must be told the name to verify: name=NAME";
            return Err(element.mistake(text));
        }
        None => {}
    }
    Ok(builder)
}

fn server(
    mut builder: TlsBuilder,
    element: &Element,
    options: &mut Options<'_>,
) -> Result<TlsBuilder, Mistake> {
    let optional = options.flag("client-optional")?;
    match options.path("client-ca")? {
        Some(path) => {
            let roots = tls::roots_from_file(path).map_err(|error| of_file(element, &error))?;
            builder = builder.client_roots(roots);
            Ok(if optional { builder.client_certificate_optional() } else { builder })
        }
        None if optional => Err(element.mistake("client-optional needs client-ca=FILE")),
        None => Ok(builder),
    }
}
