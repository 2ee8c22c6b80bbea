use crate::{Error, FromBelow, Passed, TlsInfo, ToAbove, ToBelow};

/// The inbound side, which an engine may have to look at whatever it does.
pub(crate) type Inward<'a, 'io> = (&'a mut FromBelow<'io>, &'a mut ToAbove<'io>);

/// What a TLS implementation has to do for [`TlsLayer`](super::layer::TlsLayer). Nothing but the
/// module that implements it knows whose it is.
pub(crate) trait Engine {
    /// Decrypts and handles records while there are whole ones and the way up is free. Plaintext
    /// goes up, and what is to be answered goes to `out`; after an error that is the alert. Bytes
    /// behind close_notify are left alone.
    fn process(
        &mut self,
        from: &mut FromBelow<'_>,
        to: &mut ToAbove<'_>,
        out: &mut ToBelow<'_>,
    ) -> Result<(), Error>;

    /// As [`process`](Engine::process), if the bytes are one record of data and nothing else is to
    /// be done. What it leaves over, or cannot tell here, `process` does.
    fn open(&mut self, bytes: &mut [u8], to: &mut ToAbove<'_>) -> Option<Passed>;

    /// Sends `plain`, encrypted, if nothing else has to be done before. `false`: nothing was sent.
    fn seal(&mut self, plain: &[u8], out: &mut ToBelow<'_>) -> Result<bool, Error>;

    /// Sends `plain`, encrypted.
    fn encrypt(
        &mut self,
        plain: &[u8],
        inward: Inward<'_, '_>,
        out: &mut ToBelow<'_>,
    ) -> Result<(), Error>;

    /// Sends close_notify.
    fn close_notify(&mut self, inward: Inward<'_, '_>, out: &mut ToBelow<'_>) -> Result<(), Error>;

    /// Whether the handshake is still under way.
    fn is_handshaking(&self) -> bool;

    /// Whether the peer's close_notify has come.
    fn peer_has_closed(&self) -> bool;

    /// Whether one direction can be ended alone.
    fn can_half_close(&self) -> bool;

    /// What the handshake found out.
    fn info(&self) -> TlsInfo;

    /// How many session tickets the peer has sent.
    fn tickets(&self) -> u32;
}
