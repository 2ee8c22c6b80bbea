"""A server that chooses its layers by the first bytes of a connection."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import tepal

from .conftest import Pair, client_tls, server_tls


def chosen(pair: Any) -> Any:
    return pair.server.transport.layer_info("detect")


def test_one_port_serves_tls_lines_and_plain_text(run: Any) -> None:
    detect = (
        tepal.Detect()
        .tls("secure", [server_tls()])
        .prefix("chat", b"HELLO ", [tepal.Lines()])
        .otherwise("plain")
    )

    async def main() -> None:
        for layers, text, name, told in [
            ([client_tls()], b"inside", "secure", b"inside"),
            ([], b"HELLO you\n", "chat", b"HELLO you"),
            ([], b"anything", "plain", b"anything"),
        ]:
            pair = await Pair.make(layers, [detect], wait=False)
            pair.client.transport.write(text)
            await pair.server.until_data(told)
            assert chosen(pair) == name
            assert "detect" not in pair.server.transport.layers
            answer = b"answer\n" if name == "chat" else b"answer"
            pair.server.transport.write(b"answer")
            await pair.client.until_data(answer)
            await pair.close()

    run(main())


def test_the_host_and_the_protocol_asked_for_choose_too(run: Any) -> None:
    detect = (
        tepal.Detect()
        .alpn("by protocol", "tepal/1", [server_tls(alpn=("tepal/1",))])
        .sni("by host", "server.test", [server_tls()])
    )

    async def main() -> None:
        for alpn, name in [(("tepal/1",), "by protocol"), ((), "by host")]:
            pair = await Pair.make([client_tls(alpn=alpn)], [detect])
            assert chosen(pair) == name
            await pair.close()

    run(main())


def test_what_fits_nothing_fails_the_connection(run: Any) -> None:
    async def main() -> None:
        detect = tepal.Detect().prefix("a", b"A", [])
        pair = await Pair.make([], [detect], wait=False)
        pair.client.transport.write(b"B")
        assert isinstance(await pair.server.lost, tepal.HandshakeError)
        assert pair.server.transport.closed.layer == "detect"
        await pair.client.lost
        await pair.listener.drain(0)

    run(main())


def test_it_is_a_value_and_needs_a_choice() -> None:
    one = tepal.Detect().prefix("a", b"A", [tepal.Lines()])
    assert one == tepal.Detect().prefix("a", b"A", [tepal.Lines()]) != one.otherwise("b")
    assert one.name == "detect" and len(one.otherwise("b").choices) == 2
    with pytest.raises(ValueError, match="something to choose from"):
        tepal.Detect().otherwise("inner", [tepal.Detect()])


def test_layers_in_python_work_inside_it(run: Any) -> None:
    class Upper(tepal.Layer):
        name = "upper"

        def step(self, io: Any) -> str | None:
            io.ready()
            if len(io.from_below) and io.to_above.may_push():
                data = io.from_below.bytes()
                io.from_below.consume(len(data))
                io.to_above.push(data.upper())
            while len(io.from_above) and io.to_below.room():
                data = io.from_above.bytes()
                io.from_above.consume(len(data))
                io.to_below.send(data)
            return "closed" if io.finishing else None

    async def main() -> None:
        detect = tepal.Detect().otherwise("upper", [Upper])
        alive = weakref.ref(detect)
        pair = await Pair.make([], [detect], wait=False)
        del detect
        gc.collect()
        pair.client.transport.write(b"hello")
        await pair.server.until_data(b"HELLO")
        assert alive() is not None
        await pair.close()

    run(main())
