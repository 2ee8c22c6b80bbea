use tepal_base::Buffer;
use tepal_layers::{How, Info, ProxyRequest};

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
///   ( error_dns | timeout_dns                                  the name
///   | error_connecting | timeout_connecting                    the addresses
///   | layer_ready* (error_layer | timeout_handshake)           the layers
///   | layer_ready* connection_established data_received* eof_received? connection_lost
///   )*
///   connection_lost?                                           if the last attempt failed
///   with pause_writing resume_writing io_out layer_* between the two
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
    /// is what the loop would take: above a framing layer the length of the frame, which has to fit
    /// whole, or the connection ends ([`WrongCount`](crate::CloseKind::WrongCount)). `None` (the
    /// default): this protocol lends none; all bytes come to `data_received`, and it is not asked
    /// again.
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

    /// The peer's name has no address, or could not be looked up.
    ///
    /// In this and the next five, [`Closed::problem`] has the whole story: what was tried, and what
    /// each address said. [`Transport::reconnect`] may be called; otherwise the target's
    /// [`Backoff`](crate::Backoff) decides, and without one `connection_lost` follows.
    fn error_dns(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// The peer's name was not looked up in time. By default [`error_dns`](Protocol::error_dns).
    fn timeout_dns(&mut self, transport: &Transport, closed: &Closed) {
        self.error_dns(transport, closed);
    }

    /// No address answered in time. By default
    /// [`error_connecting`](Protocol::error_connecting).
    fn timeout_connecting(&mut self, transport: &Transport, closed: &Closed) {
        self.error_connecting(transport, closed);
    }

    /// A layer's handshake took too long. By default [`error_layer`](Protocol::error_layer).
    fn timeout_handshake(&mut self, transport: &Transport, closed: &Closed) {
        self.error_layer(transport, closed);
    }

    /// No address could be connected.
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// A layer has finished its handshake, and this is what it found out. For the layers of the
    /// beginning before `connection_established`.
    fn layer_ready(&mut self, transport: &Transport, layer: &str, info: &Info) {
        let _ = (transport, layer, info);
    }

    /// A layer was put in by [`Transport::push_layer`]. What comes now has passed it.
    fn layer_added(&mut self, transport: &Transport, layer: &str) {
        let _ = (transport, layer);
    }

    /// A layer is gone: what comes now comes from the layer below it.
    fn layer_removed(&mut self, transport: &Transport, layer: &str, how: How) {
        let _ = (transport, layer, how);
    }

    /// The connection was quiet for as long as [`Timeouts::idle`](crate::Timeouts::idle) says, or
    /// nothing has passed an [`Idle`](crate::Idle) layer for its time. It stays up, so that a
    /// keep-alive can be sent.
    fn timeout_idle(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// A client of a [`SocksServer`](crate::SocksServer) or
    /// [`HttpConnectServer`](crate::HttpConnectServer) has said where it wants to go. The layer
    /// waits for [`Transport::answer_proxy`].
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        let _ = (transport, layer, request);
    }

    /// A layer could not be built, or its handshake failed: [`Closed::layer_error`] says which and
    /// why. `connection_lost` follows with the same record.
    fn error_layer(&mut self, transport: &Transport, closed: &Closed) {
        if closed.layer() == Some("tls") {
            self.error_ssl(transport, closed);
        }
    }

    /// The same, for TLS layers only.
    fn error_ssl(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// The end of a connection, or of attempts that all failed. [`Closed::is_clean`] tells an orderly
    /// end. Nothing is called after it unless another attempt follows:
    /// [`Transport::reconnect`] may be called here too.
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
    fn layer_ready(&mut self, transport: &Transport, layer: &str, info: &Info) {
        (**self).layer_ready(transport, layer, info);
    }
    fn layer_added(&mut self, transport: &Transport, layer: &str) {
        (**self).layer_added(transport, layer);
    }
    fn layer_removed(&mut self, transport: &Transport, layer: &str, how: How) {
        (**self).layer_removed(transport, layer, how);
    }
    fn timeout_idle(&mut self, transport: &Transport) {
        (**self).timeout_idle(transport);
    }
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        (**self).proxy_request(transport, layer, request);
    }
    fn error_layer(&mut self, transport: &Transport, closed: &Closed) {
        (**self).error_layer(transport, closed);
    }
    fn error_dns(&mut self, transport: &Transport, closed: &Closed) {
        (**self).error_dns(transport, closed);
    }
    fn timeout_dns(&mut self, transport: &Transport, closed: &Closed) {
        (**self).timeout_dns(transport, closed);
    }
    fn timeout_connecting(&mut self, transport: &Transport, closed: &Closed) {
        (**self).timeout_connecting(transport, closed);
    }
    fn timeout_handshake(&mut self, transport: &Transport, closed: &Closed) {
        (**self).timeout_handshake(transport, closed);
    }
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        (**self).error_connecting(transport, closed);
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        (**self).connection_lost(transport, closed);
    }
}

/// What to do with datagrams. As for [`Protocol`], every method has a default.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Address, DatagramProtocol, DatagramTransport};
///
/// struct Answers;
/// impl DatagramProtocol for Answers {
///     fn datagram_received(&mut self, to: &DatagramTransport, data: &[u8], peer: Option<&Address>) {
///         // A datagram that cannot be sent is lost, as on the way.
///         let _ = to.send_to(data, peer);
///     }
/// }
///
/// struct Asks;
/// impl DatagramProtocol for Asks {
///     fn datagram_received(&mut self, from: &DatagramTransport, data: &[u8], _: Option<&Address>) {
///         assert_eq!(data, b"anybody there?");
///         from.event_loop().stop();
///     }
/// }
///
/// let any = Address::Ip("127.0.0.1:0".parse().expect("an address"));
/// let server = event_loop.datagram(Answers, Some(any), None)?;
/// let client = event_loop.datagram(Asks, None, Some(server.local_address()?))?;
/// client.send_to(b"anybody there?", None)?;
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
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
