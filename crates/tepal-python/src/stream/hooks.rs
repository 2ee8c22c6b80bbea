//! Which of the hooks beyond asyncio's a protocol has.

use pyo3::prelude::*;

use crate::imports::imports;

/// A callback that asyncio does not know.
#[derive(Clone, Copy)]
pub(super) enum Hook {
    Established,
    /// `data_received` under its other name.
    IoIn,
    IoOut,
    TimeoutDns,
    TimeoutConnecting,
    TimeoutHandshake,
    TimeoutIdle,
    ErrorDns,
    ErrorConnecting,
    ErrorSsl,
    ErrorLayer,
    LayerReady,
    LayerAdded,
    LayerRemoved,
    LayerIdle,
    LayerRequest,
}

use Hook::*;

const ALL: [Hook; 16] = [
    Established,
    IoIn,
    IoOut,
    TimeoutDns,
    TimeoutConnecting,
    TimeoutHandshake,
    TimeoutIdle,
    ErrorDns,
    ErrorConnecting,
    ErrorSsl,
    ErrorLayer,
    LayerReady,
    LayerAdded,
    LayerRemoved,
    LayerIdle,
    LayerRequest,
];

impl Hook {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Established => "connection_established",
            IoIn => "io_in",
            IoOut => "io_out",
            TimeoutDns => "timeout_dns",
            TimeoutConnecting => "timeout_connecting",
            TimeoutHandshake => "timeout_handshake",
            TimeoutIdle => "timeout_idle",
            ErrorDns => "error_dns",
            ErrorConnecting => "error_connecting",
            ErrorSsl => "error_ssl",
            ErrorLayer => "error_layer",
            LayerReady => "layer_ready",
            LayerAdded => "layer_added",
            LayerRemoved => "layer_removed",
            LayerIdle => "layer_idle",
            LayerRequest => "layer_request",
        }
    }
}

/// A set of hooks, decided when a protocol is set.
#[derive(Clone, Copy, Default)]
pub(super) struct Hooks(u32);

impl Hooks {
    /// Those that the protocol's class has, other than as `tepal.Protocol` has them: doing nothing.
    pub(super) fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Hooks> {
        let py = protocol.py();
        let class = protocol.get_type();
        let base = imports(py).counted_protocol.get(py).map(|base| base.bind(py));
        let overrides = |name: &str| -> PyResult<bool> {
            let Some(own) = class.getattr_opt(name)? else { return Ok(false) };
            match base {
                Some(base) => Ok(base.getattr_opt(name)?.is_none_or(|plain| !plain.is(&own))),
                None => Ok(true),
            }
        };
        let mut hooks = Hooks::default();
        for hook in ALL {
            // asyncio's name wins where both are overridden.
            let wanted = match hook {
                IoIn => overrides("io_in")? && inherits_data_received(&class)?,
                hook => overrides(hook.name())?,
            };
            hooks.0 |= u32::from(wanted) << hook as u32;
        }
        Ok(hooks)
    }

    #[inline]
    pub(super) fn has(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u32) != 0
    }
}

// Whether `data_received` is not the class's own.
fn inherits_data_received(class: &Bound<'_, pyo3::types::PyType>) -> PyResult<bool> {
    let py = class.py();
    let Some(own) = class.getattr_opt("data_received")? else { return Ok(true) };
    let Some(base) = imports(py).counted_protocol.get(py) else { return Ok(false) };
    Ok(base.bind(py).getattr("data_received")?.is(&own))
}
