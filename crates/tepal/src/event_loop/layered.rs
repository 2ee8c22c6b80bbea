//! What a transport does with the layers of its stack.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tepal_layers::{
    Error as LayerError, How, Info, Late, LayerId, LayerSpec, ProxyAnswer, Residual, Which,
};

use super::{Loop, Pending, Transport};
use crate::engine::Outcome;

impl Transport {
    /// Puts a layer in, on top of the others. See
    /// [`push_layer_with`](Self::push_layer_with); bytes that were received and not used end the
    /// connection.
    ///
    /// # Errors
    ///
    /// As for [`push_layer_with`](Self::push_layer_with).
    pub fn push_layer(&self, spec: impl LayerSpec + 'static) -> Result<LayerId, LayerError> {
        self.push_layer_with(&(Arc::new(spec) as Arc<dyn LayerSpec>), None, Residual::Reject)
    }

    /// Puts a layer in, above the bytes already written: on top, or directly below the
    /// topmost layer named. Returns the new layer's id.
    /// [`Protocol::layer_added`](crate::Protocol::layer_added) follows, and
    /// [`Protocol::layer_ready`](crate::Protocol::layer_ready) after its handshake; what is
    /// written now waits for that.
    ///
    /// What was received and not used is treated as `residual` says; inside `data_received` that
    /// call's count is applied first. What an earlier layer of the same `spec` value left behind
    /// (a TLS session) is used again.
    ///
    /// # Errors
    ///
    /// What the spec finds wrong with itself; `NoSuchLayer`; `Closing` while the connection is not
    /// established, closes, or another layer is put in or taken out. Nothing has changed then.
    pub fn push_layer_with(
        &self,
        spec: &Arc<dyn LayerSpec>,
        below: Option<&str>,
        residual: Residual,
    ) -> Result<LayerId, LayerError> {
        self.lp.engine().stream_push_layer(self.key, spec, below, residual)
    }

    /// Takes a layer out gracefully and leaves what is below it open: the topmost one (`None`), the
    /// topmost of those with a name (`Some("tls")`), or the one with an id ([`LayerId`]): a TLS
    /// layer says goodbye and waits up to `timeout` for the peer's. What is written from now on
    /// waits until then and goes to the layer below. The value is how the layer ended.
    ///
    /// # Errors
    ///
    /// At once `NoSuchLayer`; `Closing` while the connection is not established, closes, has
    /// ended its writing, or another layer is put in or taken out. In the operation: why the
    /// connection ended before, or with [`Late::Close`] that the peer did not answer in time.
    pub fn pop_layer<'a>(
        &self,
        layer: impl Into<Which<'a>>,
        timeout: Duration,
        late: Late,
    ) -> Result<Pending<Result<How, LayerError>>, LayerError> {
        let (operation, finish) = Pending::new();
        let completion = Box::new(move |_: &Loop, outcome: Outcome| {
            if let Outcome::Popped(result) = outcome {
                finish(result);
            }
        });
        let engine = self.lp.engine();
        engine
            .stream_pop_layer(self.key, layer.into(), timeout, late, completion)
            .map_err(|(error, _)| error)?;
        Ok(operation)
    }

    /// The names of the layers, from the wire upward.
    pub fn layers(&self) -> Vec<&'static str> {
        self.lp.engine().stream_layers(self.key)
    }

    /// The layers that are built, with their ids, from the wire upward.
    pub fn layer_ids(&self) -> Vec<(LayerId, &'static str)> {
        self.lp.engine().stream_layer_ids(self.key)
    }

    /// What the handshake of the topmost layer of a name found out, as long as the layer is there;
    /// of a layer whose handshake was its work (SOCKS, CONNECT, PROXY), as long as the connection
    /// is.
    pub fn layer_info(&self, layer: &str) -> Option<Info> {
        self.lp.engine().stream_layer_info(self.key, layer)
    }

    /// Gives an order to a layer, in order with writes: [`LinesMode`](crate::layers::LinesMode).
    ///
    /// # Errors
    ///
    /// `NoSuchLayer`, `Closing`.
    pub fn command_layer(&self, layer: &str, command: impl Any) -> Result<(), LayerError> {
        self.lp.engine().stream_command(self.key, layer, Box::new(command))
    }

    /// Answers the client of a proxy layer, after
    /// [`Protocol::proxy_request`](crate::Protocol::proxy_request).
    ///
    /// # Errors
    ///
    /// As for [`command_layer`](Self::command_layer).
    pub fn answer_proxy(&self, layer: &str, answer: ProxyAnswer) -> Result<(), LayerError> {
        self.command_layer(layer, answer)
    }
}
