use tepal_base::Buffer;

use super::{DatagramTransport, Transport};
use crate::{Address, Closed};

/// What to do with a connection's bytes, in the words of PEP 3156.
///
/// Every method has a default, so a protocol implements what it cares for. All are called on the
/// loop's thread, never inside one another, and never inside a method of the transport.
///
/// # Order of calls
///
/// ```text
/// connection_made
///   (error_connecting connection_lost)                         an outbound one that failed
/// | connection_established data_received* eof_received? connection_lost
///   with pause_writing resume_writing io_out between the two
/// ```
///
/// # Panics
///
/// A panic in a callback costs this connection only: it ends with
/// [`CloseKind::ProtocolFailed`](crate::CloseKind::ProtocolFailed), and the loop goes on unless
/// [`EventLoop::set_panic_hook`](crate::EventLoop::set_panic_hook) says otherwise.
pub trait Protocol: 'static {
    /// The transport exists; for outbound connections before the first packet leaves. Bytes written
    /// now are queued.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Bytes may flow. Inbound connections hear this right after `connection_made`.
    fn connection_established(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Bytes arrived. Returns how many of them, from the front, have been used.
    ///
    /// The transport keeps the rest. It offers it again at once while the count is above zero and
    /// bytes remain, so that one message per call is a good style; after a zero it waits for more
    /// bytes and offers all together. So a protocol needs no buffer of its own. `data` is never
    /// empty, and is lent for the call.
    ///
    /// A count above `data.len()` ends the connection
    /// ([`WrongCount`](crate::CloseKind::WrongCount)); 256 KiB that stay unused end it too
    /// ([`InputStalled`](crate::CloseKind::InputStalled); see [`Transport::set_read_limit`]).
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.io_in(transport, data)
    }

    /// Another name for [`data_received`](Protocol::data_received): implement one of the two.
    fn io_in(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let _ = transport;
        data.len()
    }

    /// Lends the memory that the next bytes are read into, instead of `data_received`. `size_hint`
    /// is what the loop would take. `None` (the default): this protocol lends none; all bytes come
    /// to `data_received`, and it is not asked again.
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<Buffer> {
        let _ = (transport, size_hint);
        None
    }

    /// The lent memory comes back; its first `count` bytes are new. Zero: nothing was read.
    fn buffer_updated(&mut self, transport: &Transport, buffer: Buffer, count: usize) {
        let _ = (transport, buffer, count);
    }

    /// The peer ended its direction. Returns whether ours stays open; `false` (the default) closes
    /// the transport.
    fn eof_received(&mut self, transport: &Transport) -> bool {
        let _ = transport;
        false
    }

    /// More bytes wait to be sent than the high mark: stop writing if you can.
    fn pause_writing(&mut self, transport: &Transport) {
        self.pause_io_out(transport);
    }

    /// Another name for [`pause_writing`](Protocol::pause_writing).
    fn pause_io_out(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// No more bytes wait than the low mark: write on.
    fn resume_writing(&mut self, transport: &Transport) {
        self.resume_io_out(transport);
    }

    /// Another name for [`resume_writing`](Protocol::resume_writing).
    fn resume_io_out(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Everything written has been given to the kernel. Called once, in the turn after the one that
    /// drained the buffer.
    fn io_out(&mut self, transport: &Transport) {
        transport.decline_io_out();
    }

    /// The connection could not be made. `connection_lost` follows with the same record.
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// The end; nothing is called after it. [`Closed::is_clean`] tells an orderly end.
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }
}

impl Protocol for Box<dyn Protocol> {
    fn connection_made(&mut self, transport: &Transport) {
        (**self).connection_made(transport);
    }
    fn connection_established(&mut self, transport: &Transport) {
        (**self).connection_established(transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        (**self).data_received(transport, data)
    }
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<Buffer> {
        (**self).get_buffer(transport, size_hint)
    }
    fn buffer_updated(&mut self, transport: &Transport, buffer: Buffer, count: usize) {
        (**self).buffer_updated(transport, buffer, count);
    }
    fn eof_received(&mut self, transport: &Transport) -> bool {
        (**self).eof_received(transport)
    }
    fn pause_writing(&mut self, transport: &Transport) {
        (**self).pause_writing(transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        (**self).resume_writing(transport);
    }
    fn io_out(&mut self, transport: &Transport) {
        (**self).io_out(transport);
    }
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        (**self).error_connecting(transport, closed);
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        (**self).connection_lost(transport, closed);
    }
}

/// What to do with datagrams. As for [`Protocol`], every method has a default.
pub trait DatagramProtocol: 'static {
    /// The socket is bound.
    fn connection_made(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// A datagram arrived, whole; it may be empty. `peer` is `None` for an unnamed Unix socket.
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        let _ = (transport, data, peer);
    }

    /// The kernel told of a failure of an earlier datagram (such as a refusal); the endpoint stays.
    fn error_received(&mut self, transport: &DatagramTransport, error: &std::io::Error) {
        let _ = (transport, error);
    }

    /// More bytes wait to be sent than the high mark.
    fn pause_writing(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// No more bytes wait than the low mark.
    fn resume_writing(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// The end.
    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        let _ = (transport, closed);
    }
}
