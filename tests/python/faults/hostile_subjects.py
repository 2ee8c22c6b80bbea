"""What the hostile calls are made to, and what is rightful for each parameter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import tepal

from .hostile_values import Scene


def listener(scene: Scene) -> socket.socket:
    sock = scene.own(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    return sock


async def nothing() -> None:
    pass


async def transport_of(scene: Scene, kind: str) -> Any:
    loop = scene.loop
    if kind == "stream":
        sock = scene.pair()
        scene.peer = scene.owned[-1]
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    elif kind == "datagrams":
        sock = scene.own(socket.socket(type=socket.SOCK_DGRAM))
        sock.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
    elif kind == "read pipe":
        transport, _ = await loop.connect_read_pipe(asyncio.Protocol, scene.pipe(0))
    else:
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, scene.pipe(1))
    return transport


async def server_of(scene: Scene) -> Any:
    return await scene.loop.create_server(asyncio.Protocol, sock=listener(scene))


async def child_of(scene: Scene) -> Any:
    return (await scene.loop.subprocess_exec(asyncio.SubprocessProtocol, "cat"))[0]


async def stack_of(scene: Scene) -> Any:
    """A transport of a stack, for what only ours has."""
    sock = scene.pair()
    transport = scene.loop.connect(tepal.Protocol, sock=sock, layers=[tepal.Lines()])
    await transport.established()
    return transport


async def tls_of(scene: Scene) -> Any:
    from tls.peers import client_context, server_context

    ours, theirs = socket.socketpair()
    made = scene.loop.create_task(
        scene.loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server_context())
    )
    transport, _ = await scene.loop.create_connection(
        asyncio.Protocol, sock=ours, ssl=client_context(), server_hostname="server.test"
    )
    scene.own((await made)[0])
    return transport


class Recipes:
    """The classes that take settings, as methods: what they make is used at once."""


for _name, _class in list(vars(tepal).items()):
    if isinstance(_class, type) and issubclass(_class, (tepal.LayerSpec, tepal.Timeouts, tepal.Backoff, tepal.Limits)):
        setattr(Recipes, _name, staticmethod(_class))
for _class in (tepal.Resolver, tepal.SystemResolver, tepal.RateGroup, tepal.ProtocolLayer):
    setattr(Recipes, _class.__name__, staticmethod(_class))


async def recipes_of(scene: Scene) -> Any:
    return Recipes()


async def use(scene: Scene, made: Any) -> None:
    """Whatever a recipe makes that was not refused works, or fails as a connection fails."""
    sock = scene.pair()
    theirs = scene.owned[-1]
    keywords: dict[str, Any] = {}
    if isinstance(made, tepal.Timeouts):
        keywords["timeouts"] = made
    elif isinstance(made, tepal.RateGroup):
        keywords["layers"] = [tepal.RateLimit(read=1, group=made)]
    elif isinstance(made, (tepal.LayerSpec, tepal.Layer)):
        keywords["layers"] = [made]
    elif isinstance(made, tepal.Limits):
        server = await scene.loop.listen(tepal.Protocol, "127.0.0.1", 0, limits=made)
        server.close()
    elif isinstance(made, tepal.Backoff):
        address = listener(scene).getsockname()
        scene.loop.connect(tepal.Protocol, *address, backoff=made).abort()
    elif isinstance(made, tepal.Resolver):
        address = listener(scene).getsockname()
        scene.loop.connect(tepal.Protocol, *address, resolver=made).abort()
    transport = scene.loop.connect(tepal.Protocol, sock=sock, **keywords)
    theirs.send(b"data\n")
    transport.write(b"data")
    for _ in range(5):
        await asyncio.sleep(0)
    transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def itself(scene: Scene) -> Any:
    return scene.loop


async def handle_of(scene: Scene) -> Any:
    return scene.loop.call_soon(int)


async def timer_handle_of(scene: Scene) -> Any:
    return scene.loop.call_later(60, int)


async def timer_of(scene: Scene) -> Any:
    return scene.loop.timer(60, int)


async def watcher_of(scene: Scene) -> Any:
    return scene.loop.watch(scene.pair(), tepal.READ, int)


SUBJECTS: dict[str, Callable[[Scene], Any]] = {
    "loop": itself,
    "stream": lambda scene: transport_of(scene, "stream"),
    "datagrams": lambda scene: transport_of(scene, "datagrams"),
    "read pipe": lambda scene: transport_of(scene, "read pipe"),
    "write pipe": lambda scene: transport_of(scene, "write pipe"),
    "tls": tls_of,
    "server": server_of,
    "child": child_of,
    "handle": handle_of,
    "timer handle": timer_handle_of,
    # Ours alone.
    "stack": stack_of,
    "recipes": recipes_of,
    "timer": timer_of,
    "watcher": watcher_of,
}
OURS_ALONE = ("stack", "recipes", "timer", "watcher")

# What a parameter of this name gets while another one is hostile.
GOOD: dict[str, Callable[[Scene], Any]] = {
    "callback": lambda _: lambda *args, **keywords: None,
    "func": lambda _: lambda *args: None,
    "args": lambda _: 1,
    "delay": lambda _: 0,
    "delimiter": lambda _: b"\n",
    "after": lambda _: 60,
    "layer": lambda _: tepal.Layer,
    "command": lambda _: "raw",
    "sink": lambda _: lambda data: None,
    "interval": lambda _: 60,
    "when": lambda s: s.loop.time(),
    "fd": lambda s: s.pair(),
    "events": lambda _: 1,
    "sig": lambda _: 10,
    "signal": lambda _: 0,
    "sock": lambda s: s.pair(),
    "n": lambda _: 10,
    "bufsize": lambda _: 10,
    "buf": lambda _: bytearray(10),
    "data": lambda _: b"data",
    "list_of_data": lambda _: [b"data", b"more"],
    "address": lambda s: listener(s).getsockname(),
    "addr": lambda _: ("127.0.0.1", 9),
    "protocol_factory": lambda _: asyncio.Protocol,
    "protocol": lambda _: asyncio.Protocol(),
    "host": lambda _: "127.0.0.1",
    "port": lambda s: listener(s).getsockname()[1],
    "path": lambda _: "socket",
    "program": lambda _: "true",
    "cmd": lambda _: "true",
    "pipe": lambda s: s.pipe(0),
    "transport": lambda s: s.other,
    "sslcontext": lambda _: None,
    "file": lambda s: s.opened(__file__),
    "executor": lambda s: s.own_executor(),
    "future": lambda _: nothing(),
    "coro": lambda _: nothing(),
    "context": lambda _: {"message": "on purpose"},
    "handler": lambda _: lambda loop, context: None,
    "factory": lambda _: lambda loop, coro, **keywords: asyncio.Task(coro, loop=loop, **keywords),
    "enabled": lambda _: False,
    "sockaddr": lambda _: ("127.0.0.1", 80),
    "high": lambda _: 10,
    "low": lambda _: 5,
    "name": lambda _: "socket",
    "other": lambda s: s.other,
    "spec": lambda _: tepal.Lines(),
}

OPERATORS = ("__eq__", "__lt__", "__le__", "__gt__", "__ge__")
