//! Layers for tests: what a user would write.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::sync::{Arc, Mutex};

use tepal_layers::{Error, Info, Io, Layer, LayerSpec, Pauses, Site, Status};

/// What a [`Pauser`] saw last: why those above want nothing, and whether there is room below.
#[derive(Debug)]
pub(crate) struct Probe(Mutex<(Pauses, bool)>);

impl Default for Probe {
    fn default() -> Self {
        Probe(Mutex::new((Pauses::NONE, true)))
    }
}

impl Probe {
    pub(crate) fn last(&self) -> (Pauses, bool) {
        *self.0.lock().unwrap()
    }
}

/// Passes everything on and notes the pauses on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Pauser(pub(crate) Arc<Probe>);

impl LayerSpec for Pauser {
    fn name(&self) -> &'static str {
        "pauser"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Layer for Pauser {
    fn name(&self) -> &'static str {
        "pauser"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        io.to_above.pass(&mut io.from_below, usize::MAX);
        io.to_below.pass(&mut io.from_above, usize::MAX);
        *self.0.0.lock().unwrap() = (io.to_above.pauses(), io.to_below.room() > 0);
        Ok(Status::Open)
    }
}
