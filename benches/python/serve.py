"""An echo server on a loop: `serve.py LOOP KIND [DIRECTORY]`. Tells where it listens, and runs.

KIND is one of `protocol`, `streams`, `tls` (with an ssl.SSLContext), `tls-native` (tepal.TLS),
`tls-streams` and `udp`. DIRECTORY holds cert.pem and key.pem.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import loops


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
    writer.close()


async def start(name: str, kind: str, directory: str) -> Any:
    loop = asyncio.get_running_loop()
    create_server = loop.create_server
    if name == "aiofastnet":
        import aiofastnet

        async def create_server(*args: Any, **keywords: Any) -> Any:
            return await aiofastnet.create_server(loop, *args, **keywords)

    context = None
    if kind in ("tls", "tls-streams"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(directory, "cert.pem"), Path(directory, "key.pem"))
    if kind in ("protocol", "tls"):
        return await create_server(Echo, "127.0.0.1", 0, ssl=context, backlog=2048)
    if kind == "tls-native":
        import tepal

        tls = tepal.TLS(certificate=str(Path(directory, "cert.pem")), key=str(Path(directory, "key.pem")))
        return await loop.create_server(Echo, "127.0.0.1", 0, layers=[tls], backlog=2048)  # type: ignore[call-arg]
    if kind in ("streams", "tls-streams"):
        return await asyncio.start_server(echo_stream, "127.0.0.1", 0, ssl=context, backlog=2048, limit=1 << 18)
    if kind == "udp":
        transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
        return transport
    raise SystemExit(f"there is no kind of server {kind!r}")


def main() -> None:
    name, kind, *rest = sys.argv[1:]
    # glibc gives memory above a threshold back to the kernel at once, until a block of that size was
    # freed. asyncio and others read into blocks of 256 KiB: without this they would pay page faults
    # for each read, as they do only in programs that never freed anything large.
    del [bytearray(1 << 20)][:]
    loop = loops.factory(name)()
    asyncio.set_event_loop(loop)
    server = loop.run_until_complete(start(name, kind, rest[0] if rest else "."))
    if isinstance(server, asyncio.BaseTransport) or not hasattr(server, "sockets"):
        address = server.get_extra_info("sockname")
    else:
        address = server.sockets[0].getsockname()
    gc.collect()
    gc.freeze()
    print(f"listening {address[0]}:{address[1]} {os.getpid()}", flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
