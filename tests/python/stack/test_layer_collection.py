"""Layers in Python, their recipes and what they have raised are collected."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
import weakref
from typing import Any

import pytest

import tepal

from .conftest import Recorder, Xor, serve


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
