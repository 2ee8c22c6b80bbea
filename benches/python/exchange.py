"""A load of requests and responses that do not change:
`exchange.py ADDRESS PID http|websockets CONNECTIONS SECONDS`.

Each connection sends its request again when it has read as many bytes as the first response had.
Prints `cpu_ns N requests N`, as `tepal-bench load` does: the CPU time that the process PID took.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: exchange\r\nAccept: */*\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A binary message of 1 KiB, masked by zeros (RFC 6455, section 5.2), and its echo, which is not.
FRAME = b"\x82\xfe\x04\x00" + bytes(4) + bytes(1024)
ECHO_LEN = 4 + 1024


def spent(process: int) -> int:
    """Nanoseconds of CPU of a process, by the clock that clock_getcpuclockid(3) would give."""
    return time.clock_gettime_ns((~process << 3) | 2)


def head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Reads to the end of an HTTP head. Returns it, and what came after."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            raise SystemExit(f"the server hung up after {data!r}")
        data += part
    first, _, rest = data.partition(b"\r\n\r\n")
    return first + b"\r\n\r\n", rest


def opened(address: tuple[str, int], kind: str) -> tuple[socket.socket, int]:
    """A connection that has had one response, and the length of that."""
    sock = socket.create_connection(address, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind == "websockets":
        sock.sendall(UPGRADE)
        response, rest = head(sock)
        if not response.startswith(b"HTTP/1.1 101") or rest:
            raise SystemExit(f"no WebSocket: {response!r}")
        return sock, ECHO_LEN
    sock.sendall(GET)
    response, rest = head(sock)
    lengths = [line for line in response.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2])
    while len(rest) < length:
        rest += sock.recv(65536)
    return sock, len(response) + length


def main() -> None:
    where, process, kind, connections, seconds = sys.argv[1:]
    host, _, port = where.rpartition(":")
    request = FRAME if kind == "websockets" else GET
    poller = select.epoll()
    socks, left, lengths = {}, {}, {}
    for _ in range(int(connections)):
        sock, length = opened((host, int(port)), kind)
        fd = sock.fileno()
        socks[fd], left[fd], lengths[fd] = sock, length, length
        poller.register(fd, select.EPOLLIN)
    for sock in socks.values():
        sock.sendall(request)
    requests, began, before, warm = 0, time.monotonic(), 0, False
    limit = float(seconds)
    while True:
        for fd, _ in poller.poll(5):
            left[fd] -= len(os.read(fd, 65536))
            if left[fd] == 0:
                requests += 1
                left[fd] = lengths[fd]
                socks[fd].sendall(request)
            elif left[fd] < 0:
                raise SystemExit("a response of another length")
        elapsed = time.monotonic() - began
        if not warm and elapsed > limit / 3:
            warm, requests, before = True, 0, spent(int(process))
        if elapsed > limit * 4 / 3:
            break
    print(f"cpu_ns {spent(int(process)) - before} requests {requests}")


if __name__ == "__main__":
    main()
