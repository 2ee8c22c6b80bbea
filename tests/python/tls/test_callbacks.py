"""Callbacks that raise, and callbacks that call back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peers import BufferedRecorder, Peer, Recorder, client_context, server_context, sockets, turns

CALLBACKS = ("connection_made", "data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost")


async def live(factory: Any, loop: Any) -> Any:
    """A whole life in which every callback comes, if none ends it before."""
    made: list[Any] = []

    def make() -> Any:
        made.append(factory())
        return made[0]

    ours, theirs = sockets()
    peer = Peer(theirs, server_context(), server_side=True)
    connecting = asyncio.ensure_future(
        loop.create_connection(make, sock=ours, ssl=client_context(), server_hostname="server.test")
    )
    try:
        await peer.handshake()
        await connecting
    except (ZeroDivisionError, OSError, EOFError) as error:
        peer.close()
        await asyncio.wait([connecting])
        await turns()
        return made[0], connecting.exception() or made[0].error or error
    protocol = made[0]
    protocol.transport.set_write_buffer_limits(high=1000, low=10)
    protocol.transport.write(bytes(3_000_000))
    try:
        await peer.read(3_000_000)
        await peer.write(b"data")
        await turns(10)
        await peer.finish() if protocol.transport.is_closing() else await peer.say_goodbye()
    except (OSError, EOFError):
        pass
    await protocol.lost
    peer.close()
    await turns()
    return protocol, protocol.error


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("name", [*CALLBACKS, "get_buffer"])
def test_an_exception_in_a_callback_costs_what_it_costs_in_asyncio(run: Any, loop: Any, name: str, factory: Any) -> None:
    protocol, error = run(live(lambda: factory((name,)), loop))
    reports = [(report["message"], type(report["exception"])) for report in loop.reports]
    loop.reports.clear()
    if name not in protocol.events:
        assert name == "get_buffer" or name in ("pause_writing", "resume_writing", "data_received")
        return
    if name in ("connection_made", "data_received", "get_buffer", "eof_received"):
        assert isinstance(error, ZeroDivisionError)
    else:
        assert error is None
    assert [kind for _, kind in reports] == [ZeroDivisionError] * len(reports)
    messages = {message for message, _ in reports}
    expected = {
        "connection_made": "Fatal error: protocol.buffer_updated() call failed.",
        "data_received": "Fatal error on SSL protocol",
        "get_buffer": "Fatal error on SSL protocol",
        "eof_received": "Error calling eof_received()",
        "pause_writing": "protocol.pause_writing() failed",
        "resume_writing": "protocol.resume_writing() failed",
    }
    if name == "connection_lost":
        assert len(messages) == 1 and "Exception in callback" in messages.pop()
    else:
        assert messages == {expected[name]}
    assert protocol.events.count("connection_lost") == (0 if name == "connection_made" else 1) or (
        name == "connection_made" and protocol.events.count("connection_lost") == 1
    )


ACTIONS = {
    "write": lambda t: t.write(b"more"),
    "writelines": lambda t: t.writelines([b"one", b"two"]),
    "close": lambda t: t.close(),
    "abort": lambda t: t.abort(),
    "pause and resume": lambda t: (t.pause_reading(), t.resume_reading()),
    "protocol": lambda t: t.set_protocol(t.get_protocol()),
    "limits": lambda t: t.set_write_buffer_limits(high=10),
    "facts": lambda t: (t.get_extra_info("cipher"), t.get_write_buffer_size(), t.is_closing(), repr(t)),
    "below": lambda t: t._below and t._below.close(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_may_call_anything(run: Any, own_loop: Any, name: str, action: str) -> None:
    def acts(protocol: Any, event: str) -> None:
        if event == name:
            ACTIONS[action](protocol.transport)

    protocol, error = run(live(lambda: Recorder((), acts), own_loop))
    assert protocol.events.count("connection_made") == 1
    assert protocol.events.count("connection_lost") == 1
    assert protocol.events[-1] == "connection_lost"
    assert error is None or isinstance(error, (OSError, EOFError))


@pytest.mark.parametrize("action", ACTIONS)
def test_the_callback_for_server_names_may_call_anything(run: Any, own_loop: Any, action: str) -> None:
    """It runs inside OpenSSL."""

    async def main() -> None:
        ours, theirs = sockets()
        transport, protocol = await own_loop.create_connection(Recorder, sock=ours)
        context = server_context()
        found: list[Any] = []
        calls: list[str] = []

        def names(_object: Any, name: str, _context: Any) -> None:
            calls.append(name)
            ACTIONS[action](found[0])

        context.sni_callback = names
        upgrading = asyncio.ensure_future(own_loop.start_tls(transport, protocol, context, server_side=True))
        await asyncio.sleep(0)
        found.append(transport.get_protocol())
        peer = Peer(theirs, client_context(), server_hostname="server.test")
        try:
            await peer.handshake()
        except (OSError, EOFError):
            pass
        try:
            upgraded = await upgrading
        except OSError:
            await turns()
        else:
            upgraded.abort()
            await protocol.lost
        assert calls == ["server.test"]
        peer.close()
        await turns()

    run(main())


def test_exceptions_of_context_callbacks_are_told_as_asyncio_tells_them(run: Any, loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        context = client_context()

        def messages(*_: Any) -> None:
            raise ZeroDivisionError

        context._msg_callback = messages
        peer = Peer(theirs, server_context(), server_side=True)
        connecting = loop.create_connection(Recorder, sock=ours, ssl=context, server_hostname="server.test")
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(ZeroDivisionError):
            await connecting
        handshake.cancel()
        await asyncio.wait([handshake])
        peer.close()
        await turns()

    run(main())
    loop.reports.clear()


@pytest.mark.parametrize("what", ["connection", "start_tls"])
def test_cancelled_at_every_turn_nothing_is_left_open(run: Any, own_loop: Any, what: str) -> None:
    async def once(count: int) -> bool:
        ours, theirs = sockets()
        peer = Peer(theirs, server_context(), server_side=True)
        handshake = asyncio.ensure_future(peer.handshake())
        if what == "connection":
            task = asyncio.ensure_future(
                own_loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="server.test")
            )
        else:
            transport, protocol = await own_loop.create_connection(Recorder, sock=ours)
            task = asyncio.ensure_future(
                own_loop.start_tls(transport, protocol, client_context(), server_hostname="server.test")
            )
        for _ in range(count):
            if not task.done():
                await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        if finished:
            result = task.result()
            (result[0] if what == "connection" else result).abort()
        elif what == "start_tls":
            transport.abort()
        handshake.cancel()
        await asyncio.wait([handshake])
        handshake.cancelled() or handshake.exception()
        peer.close()
        await turns(5)
        # A transport whose handshake was just done says goodbye to the peer, which is gone.
        while ours.fileno() >= 0 and own_loop._is_of_transport(ours.fileno()):
            await asyncio.sleep(0)
        ours.close()  # if there was no transport yet to close it
        return finished

    async def main() -> None:
        for count in range(200):
            if await once(count):
                return
        raise AssertionError("it never ended")

    run(main())
