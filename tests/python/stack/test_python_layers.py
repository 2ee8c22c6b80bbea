"""Layers written in Python."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, Xor, client_tls, record_and_echo, server_tls


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
