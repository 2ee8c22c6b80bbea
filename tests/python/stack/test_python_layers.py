"""Layers written in Python, and asyncio's protocol classes as layers (S33, S48)."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
import weakref
from asyncio import sslproto
from typing import Any

import pytest

import tepal

from .conftest import DATA, Pair, Recorder, client_tls, server_tls


class Xor(tepal.Layer):
    """Hides bytes from the eyes of a passer-by, and from nobody else."""

    name = "xor"

    def __init__(self, key: int = 0x55) -> None:
        self.key = key

    def step(self, io: Any) -> Any:
        io.ready()
        if len(io.from_below) and io.to_above.may_push():
            data = io.from_below.bytes()
            io.from_below.consume(len(data))
            io.to_above.push(bytes(byte ^ self.key for byte in data))
        while len(io.from_above) and io.to_below.room():
            data = io.from_above.bytes()
            io.from_above.consume(len(data))
            io.to_below.send(bytes(byte ^ self.key for byte in data))
        return "closed" if io.finishing else None


def echo(protocol: Recorder, data: bytes) -> None:
    protocol.data += data
    protocol.transport.write(data)


def test_a_layer_in_python_obeys_the_contract_between_native_ones(run: Any) -> None:
    async def main() -> None:
        layers = [tepal.RateLimit(write=1 << 30), Xor.spec(3), Xor]
        pair = await Pair.make(
            [*layers, client_tls(), tepal.Netstrings()],
            [*layers, server_tls(), tepal.Netstrings()],
            server=lambda: Recorder(echo),
        )
        assert pair.client.transport.layers == ("rate", "xor", "xor", "tls", "netstrings")
        message = bytes(range(256)) * 200
        pair.client.transport.write(message)
        await pair.client.until_data(message)
        assert await pair.close() == (None, None)

    run(main())


def test_each_attempt_builds_a_fresh_layer_that_hears_of_its_end_once(run: Any) -> None:
    made: list[Any] = []

    class Counted(Xor):
        def __init__(self) -> None:
            super().__init__()
            self.ended = 0
            made.append(self)

        def gone(self) -> None:
            self.ended += 1

    async def main() -> None:
        spec = Counted.spec()
        for _ in range(2):
            pair = await Pair.make([spec], [Xor])
            await pair.close()
        assert len(made) == 2 and [layer.ended for layer in made] == [1, 1]
        assert made[0].server_side is False and made[0].host == "127.0.0.1"

    run(main())


def test_the_view_is_valid_during_the_step_only(run: Any) -> None:
    views: list[Any] = []

    class Keeps(Xor):
        def step(self, io: Any) -> Any:
            views.extend([io, io.from_below, io.to_above, io.from_above, io.to_below])
            return super().step(io)

    async def main() -> None:
        pair = await Pair.make([Keeps], [Xor])
        io, from_below, to_above, from_above, to_below = views[:5]
        for use in (
            lambda: io.now,
            lambda: io.finishing,
            lambda: io.ready(),
            lambda: io.pass_up(),
            lambda: from_below.bytes(),
            lambda: len(from_above),
            lambda: to_above.push(b"x"),
            lambda: to_below.send(b"x"),
        ):
            with pytest.raises(RuntimeError, match="only inside its step"):
                use()
        await pair.close()

    run(main())


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda self, io: 1 / 0, ZeroDivisionError),
        (lambda self, io: io.from_below.consume(1 << 40), ValueError),
        (lambda self, io: io.from_below.consume(-1), OverflowError),
        (lambda self, io: io.to_above.push("text"), TypeError),
        (lambda self, io: io.to_below.send(None), TypeError),
        (lambda self, io: "whatever", ValueError),
        (lambda self, io: 3, ValueError),
        (lambda self, io: setattr(self, "deadline", "soon"), TypeError),
        (lambda self, io: setattr(self, "write_eof", "perhaps"), ValueError),
    ],
)
def test_a_mistake_in_a_layer_costs_that_connection_and_is_reported(
    run: Any, mistake: Any, error: type[Exception]
) -> None:
    class Wrong(tepal.Layer):
        name = "wrong"

        def step(self, io: Any) -> Any:
            return mistake(self, io)

    async def main() -> None:
        pair = await Pair.make([Wrong], wait=False)
        told = await pair.client.lost
        assert isinstance(told, tepal.LayerError) and isinstance(told.__cause__, error)
        assert pair.client.transport.closed.layer == "wrong"
        assert pair.client.transport.closed.fault == "local"
        await pair.server.lost
        await pair.listener.drain(0)

    (problem,) = run(main(), expected_problems=1)
    assert isinstance(problem["exception"], error)


def test_a_layer_that_blames_the_peer_ends_the_connection_with_its_own_exception(run: Any) -> None:
    class BadMagic(tepal.LayerError):
        pass

    class Magic(Xor):
        name = "magic"

        def step(self, io: Any) -> Any:
            if len(io.from_below) >= 4 and io.from_below.bytes(4) != b"GOOD":
                # What was sent before still leaves.
                io.to_below.send(b"BYE")
                raise BadMagic("the peer does not know the word")
            return super().step(io)

    async def main() -> None:
        pair = await Pair.make(server_layers=[Magic])
        pair.client.transport.write(b"EVIL")
        told = await pair.server.lost
        assert type(told) is BadMagic and told.layer == "magic" and told.closed.fault == "remote"
        await pair.client.lost
        assert pair.client.data == b"BYE"
        await pair.listener.drain(0)

    run(main())


def test_a_deadline_steps_a_layer_and_wake_does(run: Any) -> None:
    class Clock(Xor):
        name = "clock"
        steps = 0

        def step(self, io: Any) -> Any:
            self.steps += 1
            if self.deadline is not None and io.now >= self.deadline:
                self.deadline = None
                io.to_below.send(b"tick")
            elif self.deadline is None and self.steps == 1:
                self.deadline = io.now + 0.01
            return super().step(io)

    made: list[Any] = []

    def factory() -> Any:
        made.append(Clock(0))
        return made[-1]

    async def main() -> None:
        pair = await Pair.make([tepal.LayerRecipe(factory, layer_name="clock")])
        await pair.server.until_data(b"tick")
        before = made[0].steps
        made[0].wake()
        await asyncio.sleep(0.01)
        assert made[0].steps > before
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            await asyncio.to_thread(made[0].wake)
        await asyncio.get_running_loop().shutdown_default_executor()
        await pair.close()
        made[0].wake()

    run(main())


def test_a_handshake_in_python_precedes_the_connection_and_takes_commands(run: Any) -> None:
    class Hello(tepal.Layer):
        name = "hello"
        said = False
        greeting = b"HELLO\n"

        def step(self, io: Any) -> Any:
            if not self.said:
                self.said = True
                io.to_below.send(self.greeting)
            if io.from_below.bytes().startswith(b"HELLO\n"):
                io.from_below.consume(6)
                io.ready()
                return "finished"
            io.from_below.need(6)
            return None

    async def main() -> None:
        pair = await Pair.make([Hello], [Hello])
        assert pair.client.transport.layers == ()
        assert pair.client.events[:4] == [
            "made", "ready hello", "removed hello finished", "established",
        ]  # fmt: skip
        pair.client.transport.write(b"x")
        await pair.server.until_data(b"x")

        class Orders(Xor):
            name = "orders"
            seen: list[Any] = []

            def handle_command(self, command: Any) -> None:
                self.seen.append(command)

        pair.client.transport.push_layer(Orders.spec(0))
        await pair.client.until_event("added orders")
        pair.client.transport.command("orders", {"any": "object"})
        pair.client.transport.write(b"y")
        await pair.server.until_data(b"xy")
        assert Orders.seen == [{"any": "object"}]
        await pair.close()

    run(main())


def test_a_layer_may_do_anything_to_its_connection_inside_a_step(run: Any) -> None:
    class Restless(Xor):
        name = "restless"
        transport: Any = None
        left = ["write", "pause", "push", "pop", "close"]

        def step(self, io: Any) -> Any:
            if Restless.transport is not None and self.left:
                what = self.left.pop(0)
                transport = Restless.transport
                if what == "write":
                    transport.write(b"from inside")
                elif what == "pause":
                    transport.pause_reading()
                    transport.resume_reading()
                elif what == "push":
                    transport.push_layer(Xor.spec(0))
                elif what == "pop":
                    with pytest.raises((RuntimeError, KeyError)):
                        transport.pop_layer("nothing")
                else:
                    transport.close()
                self.wake()
            return super().step(io)

    async def main() -> None:
        pair = await Pair.make([Restless.spec(0)])
        Restless.transport = pair.client.transport
        pair.client.transport.write(b"go ")
        assert await pair.client.lost is None
        await pair.server.lost
        assert pair.server.data == b"go from inside"
        Restless.transport = None
        await pair.listener.drain(0)

    run(main())


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
        pair = await Pair.make([spec, spec, spec], [spec], server=lambda: Recorder(echo))
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
            server=lambda: Recorder(echo),
        )
        assert pair.server.transport.layers == ("rate", "protocol", "lines")
        assert pair.client.transport.layer_info("tls").version == "TLSv1.3"
        pair.client.transport.write(b"a line through asyncio's TLS")
        await pair.client.until_data(b"a line through asyncio's TLS")
        pair.client.transport.close()
        await asyncio.gather(pair.client.lost, pair.server.lost)
        await pair.listener.drain(0)

    run(main())


def test_cycles_through_layers_transports_and_protocols_are_collected(driver: str) -> None:
    gone: list[Any] = []

    class Linked(Xor):
        def __init__(self) -> None:
            super().__init__()
            self.ring: Any = None

    class Protocol(tepal.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.protocol_too = self

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        layers: list[Any] = []

        def factory() -> Any:
            layer = Linked()
            layers.append(layer)
            return layer

        server = await loop.listen(Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        recipe = tepal.LayerRecipe(factory, layer_name="linked")
        transport = loop.connect(Protocol, "127.0.0.1", port, layers=[recipe])
        await transport.established()
        layers[0].ring = (transport, loop, layers)
        for thing in (transport, transport.get_protocol(), layers[0], loop):
            gone.append(weakref.ref(thing))
        server.close()
        # The loop is left with the connection open.

    loop = tepal.new_event_loop(driver=driver)
    # A record of the warning would keep what it is about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        del loop
        gc.collect()
        gc.collect()
    assert [ref() for ref in gone] == [None] * 4


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


CALLBACKS = [
    "connection_made", "connection_established", "data_received", "eof_received", "io_out",
    "layer_ready", "layer_added", "layer_removed", "pause_writing", "resume_writing",
    "connection_lost",
]  # fmt: skip


# RELIABILITY: exceptions in every callback, re-entry from every callback.
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("act", ["raise", "close", "abort", "write", "push", "pause"])
def test_any_act_in_any_callback_ends_orderly(run: Any, callback: str, act: str) -> None:
    acted: list[bool] = []

    class Client(Recorder):
        pass

    original = getattr(Recorder, callback)

    def hooked(self: Any, *arguments: Any) -> Any:
        result = original(self, *arguments)
        if not acted:
            acted.append(True)
            self._changed.set()
            if act == "raise":
                raise ZeroDivisionError(callback)
            if act == "push":
                try:
                    self.transport.push_layer(Xor.spec(0))
                except RuntimeError:
                    pass
            elif act == "write":
                try:
                    self.transport.write(b"more")
                except RuntimeError:
                    # After write_eof.
                    pass
            elif act == "pause":
                self.transport.pause_reading()
                self.transport.resume_reading()
            else:
                getattr(self.transport, act)()
        return result

    setattr(Client, callback, hooked)

    async def ended_at_once() -> None:
        loop: Any = asyncio.get_running_loop()
        server = await loop.listen(Recorder, "127.0.0.1", 0)
        transport = loop.connect(Client, *server.sockets[0].getsockname(), layers=[client_tls()])
        client = transport.get_protocol()
        await client.lost
        assert acted and client.events == ["made", "lost"]
        assert transport.closed.clean
        await server.drain(1)

    async def main() -> None:
        if callback == "connection_made" and act in ("close", "abort"):
            # Nothing was sent yet: there is no peer to hear of it.
            return await ended_at_once()
        pair = await Pair.make(
            [client_tls()], [server_tls()], client=Client, server=lambda: Recorder(echo), wait=False
        )
        client, server = pair.client, pair.server

        async def reach(ready: Any) -> bool:
            await client.until(lambda: client.lost.done() or ready())
            return not client.lost.done() and not client.transport.is_closing()

        if await reach(lambda: "established" in client.events):
            await server.until(lambda: "established" in server.events)
            server.transport.pause_reading()
            client.transport.write(bytes(8 << 20))
            await asyncio.sleep(0)
            server.transport.resume_reading()
            size = 8 << 20
            if await reach(lambda: len(client.data) >= size and "out" in client.events):
                client.transport.push_layer(Xor.spec(0))
                await reach(lambda: "added xor" in client.events)
        if not server.lost.done():
            # The peer closes first: end of input, layers removed, and the end.
            server.transport.close()
        await asyncio.wait([client.lost], timeout=20)
        assert acted, "the callback did not come"
        assert client.lost.done()
        assert client.events.count("lost") == 1 and client.events.count("made") == 1
        server.transport.abort()
        await pair.listener.drain(0)

    run(main(), expected_problems=1 if act == "raise" else 0)
