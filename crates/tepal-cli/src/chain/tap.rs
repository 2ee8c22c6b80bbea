//! The layer `tap`: what passes, for people or for Wireshark.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use tepal::layers::Tap;

use super::layers::no_rest;
use super::options::Options;
use super::{Chain, Element, Mistake};
use crate::report::say;

pub(super) fn add(
    chain: &mut Chain,
    element: &Element,
    options: &mut Options<'_>,
) -> Result<(), Mistake> {
    no_rest(element)?;
    let path = options.path("file")?;
    let forms = [("text", false), ("pcapng", true)];
    let pcapng = options.choice("form", &forms)?.unwrap_or_else(|| {
        path.as_ref().and_then(|path| path.extension()).is_some_and(|ending| ending == "pcapng")
    });
    options.finish()?;
    let Some(path) = path else {
        if pcapng {
            return Err(element.mistake("a capture needs file=FILE"));
        }
        // If standard error is closed nobody is left who could be told.
        chain.push(Tap::text(|text| drop(std::io::stderr().lock().write_all(text))));
        return Ok(());
    };
    // What passes may be secret, so that others cannot read it.
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file =
        open.map_err(|error| element.mistake(format!("{}: {error}", path.display())).of_machine())?;
    let record = Record { file: Mutex::new(Some(file)), name: path.display().to_string() };
    chain.push(match pcapng {
        true => Tap::pcapng(move |bytes| record.write(bytes)),
        false => Tap::text(move |bytes| record.write(bytes)),
    });
    Ok(())
}

/// A file that takes what passes, until it fails.
struct Record {
    file: Mutex<Option<File>>,
    name: String,
}

impl Record {
    fn write(&self, bytes: &[u8]) {
        // Nothing panics while it is locked, and what it holds is never half changed.
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(bytes)) {
            say(format_args!("{}: {error}; no more is recorded", self.name));
            *file = None;
        }
    }
}
