"""Layers written in Python."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
import weakref
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, client_tls, record_and_echo, serve, server_tls


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


def test_a_layer_in_python_obeys_the_contract_between_native_ones(run: Any) -> None:
    async def main() -> None:
        layers = [tepal.RateLimit(write=1 << 30), Xor.spec(3), Xor]
        pair = await Pair.make(
            [*layers, client_tls(), tepal.Netstrings()],
            [*layers, server_tls(), tepal.Netstrings()],
            server=lambda: Recorder(record_and_echo),
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


class Ring:
    """Something that a callback refers to, and that refers to the callback's owner."""

    other: Any


def spec_in_its_own_context(ring: Ring) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ring.other = tepal.OpenSSL(context)
    context.sni_callback = lambda *_: ring and None


def tap_in_its_own_sink(ring: Ring) -> None:
    ring.other = tepal.Detect().otherwise("any", [tepal.Tap(lambda _: ring)])


def recipe_in_its_own_factory(ring: Ring) -> None:
    ring.other = tepal.LayerRecipe(lambda: ring, layer_name="ring")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("make", [spec_in_its_own_context, tap_in_its_own_sink, recipe_in_its_own_factory])
def test_cycles_through_a_recipes_callbacks_are_collected(make: Any) -> None:
    ring = Ring()
    make(ring)
    gone = weakref.ref(ring)
    del ring
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("blames", [False, True])
def test_what_a_layer_raised_does_not_keep_its_connection(run: Any, blames: bool) -> None:
    gone: list[Any] = []

    class Raises(tepal.Layer):
        owner: Any

        def step(self, io: Any) -> None:
            mine = self.owner  # The traceback has it.
            raise tepal.LayerError("text") if blames else ValueError("text", mine)

    def factory() -> Any:
        layer = Raises()
        layer.owner = layers
        layers.append(layer)
        return layer

    layers: list[Any] = []

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        recipe = tepal.LayerRecipe(factory, layer_name="raises")
        transport = loop.connect(Recorder, "127.0.0.1", port, layers=[recipe])
        layers.append(transport)
        with pytest.raises(OSError):
            await transport.established()
        while transport.closed is None:
            await asyncio.sleep(0)
        # The record has the exception itself, also after the end.
        assert transport.closed.problem is not None
        cause = transport.problem.cause
        assert cause is transport.problem.cause and str(cause).startswith(("text", "('text'"))
        del cause
        gone.extend(weakref.ref(thing) for thing in (transport, layers[0]))
        layers.clear()
        await server.drain(0)

    run(main(), expected_problems=0 if blames else 1)
    gc.collect()
    assert [ref() for ref in gone] == [None] * 2


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
            [client_tls()], [server_tls()], client=Client, server=lambda: Recorder(record_and_echo), wait=False
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
