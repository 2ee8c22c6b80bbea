"""A program of a user who has his types checked strictly: `mypy --strict` finds nothing in it."""

from __future__ import annotations

import asyncio

import tepal


class Client(tepal.Protocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_established(self, transport: tepal.StreamTransport) -> None:
        transport.write(b"hello")

    def data_received(self, data: bytes) -> int:
        self.answer.set_result(data)
        return len(data)

    def error_connecting(self, exc: BaseException) -> None:
        print(exc)


class Echo(tepal.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, tepal.StreamTransport)
        self.transport = transport

    def io_in(self, data: bytes) -> int | None:
        self.transport.write(data)
        return None


class Upper(tepal.Layer):
    name = "upper"

    def step(self, io: tepal.LayerIO) -> tepal.How | None:
        io.ready()
        data = io.from_below.bytes()
        if data and io.to_above.may_push():
            io.from_below.consume(len(data))
            io.to_above.push(data.upper())
        io.pass_down()
        return "closed" if io.finishing else None


async def main() -> bytes:
    loop = tepal.get_running_loop()
    layers = [tepal.RateLimit(write=1 << 20), tepal.Lines(delimiter=b"\r\n")]
    limits = tepal.Limits(connections=10)
    server = await loop.listen(Echo, "127.0.0.1", 0, layers=layers, limits=limits)
    port: int = server.sockets[0].getsockname()[1]
    transport = loop.connect(
        Client,
        "127.0.0.1",
        port,
        layers=[*layers, Upper],
        timeouts=tepal.Timeouts(connecting=5),
        backoff=tepal.Backoff(attempts=2),
    )
    await transport.established()
    client = transport.get_protocol()
    assert isinstance(client, Client)
    answer = await client.answer
    phase: tepal.Phase = transport.phase
    names: tuple[str, ...] = transport.layers
    assert phase is tepal.Phase.ESTABLISHED and names == ("rate", "lines", "upper")
    how: str = await transport.pop_layer()
    assert how == "closed"
    transport.close()
    aborted: int = await server.drain(5)
    assert aborted == 0
    return answer


if __name__ == "__main__":
    print(tepal.run(main()))
