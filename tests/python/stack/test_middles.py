"""Objects between layers, and pauses and pressure through a whole stack."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import Any

import tepal

from .conftest import DATA, Pair, Recorder, client_tls, record_and_echo, server_tls


# S33: T1 <-> P2:T2 <-> P3:T3 <-> P4
class Middle(asyncio.Protocol, asyncio.Transport):
    """An object that is protocol below and transport above; it inverts what passes."""

    def __init__(self, upper: asyncio.Protocol) -> None:
        self.upper = upper
        self.below: Any = None
        self.calls: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.below = transport
        self.upper.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self.upper.data_received(bytes(255 - byte for byte in data))

    def eof_received(self) -> Any:
        return self.upper.eof_received()

    def connection_lost(self, exc: Any) -> None:
        self.calls.append("lost")
        self.upper.connection_lost(exc)

    # From the left: the way down is full.
    def pause_writing(self) -> None:
        self.calls.append("pause_writing")
        self.upper.pause_writing()

    def resume_writing(self) -> None:
        self.calls.append("resume_writing")
        self.upper.resume_writing()

    def write(self, data: Any) -> None:
        self.below.write(bytes(255 - byte for byte in data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.below.write_eof()

    def close(self) -> None:
        self.below.close()

    # From the right: those above take no more.
    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")


def test_objects_that_are_protocol_and_transport_are_members_of_a_stack(run: Any) -> None:
    async def main() -> None:
        made: list[Middle] = []

        def middle(upper: Any) -> Middle:
            made.append(Middle(upper))
            return made[-1]

        spec = tepal.ProtocolLayer.spec(middle)
        pair = await Pair.make([spec, spec, spec], [spec], server=lambda: Recorder(record_and_echo))
        message = bytes(range(256)) * 1000
        pair.client.transport.write(message)
        await pair.client.until_data(message)
        assert len(made) == 4
        assert await pair.close() == (None, None)
        await asyncio.sleep(0)
        assert all(each.calls[-1] == "lost" and each.calls.count("lost") == 1 for each in made)

    run(main())


# S48
def test_a_middle_object_tells_a_pause_on_its_left_from_one_on_its_right(run: Any) -> None:
    async def main() -> None:
        made: list[Middle] = []

        def middle(upper: Any) -> Middle:
            made.append(Middle(upper))
            return made[-1]

        pair = await Pair.make(server_layers=[tepal.ProtocolLayer.spec(middle)])
        (object_,) = made
        pair.server.transport.pause_reading()
        pair.client.transport.write(bytes(1 << 20))
        for _ in range(1000):
            if "pause_reading" in object_.calls:
                break
            await asyncio.sleep(0.001)
        assert object_.calls == ["pause_reading"]
        pair.server.transport.resume_reading()
        await pair.server.until(lambda: len(pair.server.data) == 1 << 20)
        assert object_.calls[:2] == ["pause_reading", "resume_reading"]
        object_.calls.clear()
        pair.client.transport.pause_reading()
        pair.server.transport.write(bytes(1 << 24))
        await pair.server.until_event("pause")
        for _ in range(1000):
            if "pause_writing" in object_.calls:
                break
            await asyncio.sleep(0.001)
        assert "pause_writing" in object_.calls and "pause_reading" not in object_.calls
        pair.client.transport.resume_reading()
        await pair.client.until(lambda: len(pair.client.data) == 1 << 24)
        await pair.close()

    run(main())


# S33: an existing class plugs in: asyncio's own TLS, over our rate limit, below our lines.
def test_asyncios_own_ssl_protocol_is_a_layer(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(DATA / "server.pem", DATA / "server.key")

        def server_side(upper: asyncio.Protocol) -> asyncio.BaseProtocol:
            return sslproto.SSLProtocol(
                loop, upper, server_context, loop.create_future(), server_side=True
            )

        pair = await Pair.make(
            [client_tls(), tepal.Lines()],
            [tepal.RateLimit(read=1 << 30), tepal.ProtocolLayer.spec(server_side), tepal.Lines()],
            server=lambda: Recorder(record_and_echo),
        )
        assert pair.server.transport.layers == ("rate", "protocol", "lines")
        assert pair.client.transport.layer_info("tls").version == "TLSv1.3"
        pair.client.transport.write(b"a line through asyncio's TLS")
        await pair.client.until_data(b"a line through asyncio's TLS")
        pair.client.transport.close()
        await asyncio.gather(pair.client.lost, pair.server.lost)
        await pair.listener.drain(0)

    run(main())


# L6, S51
def test_a_pause_holds_also_what_is_buffered_in_layers(run: Any) -> None:
    async def main() -> None:
        def pause_each(protocol: Recorder, data: bytes) -> None:
            protocol.note(data)
            protocol.transport.pause_reading()

        pair = await Pair.make(server_layers=[tepal.Lines()], server=lambda: Recorder(pause_each))
        pair.client.transport.write(b"one\ntwo\nthree\n")
        for line in (b"one", b"two", b"three"):
            await pair.server.until_event(line)
            await asyncio.sleep(0.005)
            assert pair.server.events[-1] == line
            pair.server.transport.resume_reading()
        await pair.close()

    run(main())


# S52, S53, S54
def test_pressure_counts_all_layers_and_a_file_stays_within_the_mark(run: Any) -> None:
    async def main() -> None:
        total, block = 4 << 20, 16 << 10

        class Sender(Recorder):
            left = total
            most = 0
            paused = False

            def connection_established(self, transport: Any) -> None:
                super().connection_established(transport)
                self.send()

            def send(self) -> None:
                while self.left and not self.paused:
                    self.left -= block
                    self.transport.write(bytes(block))
                    self.most = max(self.most, self.transport.get_write_buffer_size())

            def pause_writing(self) -> None:
                self.paused = True

            def resume_writing(self) -> None:
                self.paused = False
                self.send()

        pair = await Pair.make([client_tls()], [server_tls()], client=Sender)
        high = pair.client.transport.get_write_buffer_limits()[1]
        await pair.server.until(lambda: len(pair.server.data) == total)
        # One block, and what TLS adds to its records.
        assert 0 < pair.client.most <= high + block + 4096
        await pair.client.until_event("out")
        assert pair.client.transport.get_write_buffer_size() == 0
        await pair.close()

    run(main())
