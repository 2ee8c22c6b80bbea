"""What importing the package costs, and that every name is there all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tepal


def test_a_program_that_wants_only_the_loop_makes_no_values_of_layers() -> None:
    code = (
        "import sys, asyncio, tepal\n"
        "tepal.run(asyncio.sleep(0))\n"
        "print([n for n in ('tepal._layers', 'tepal._layer') if n in sys.modules])\n"
        "print(tepal.TLS.__name__, 'tepal._layers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\nTLS True\n", done.stderr


def test_every_public_name_is_there_and_listed() -> None:
    for name in tepal.__all__:
        assert getattr(tepal, name) is not None
        assert name in dir(tepal)
    assert not [name for name in dir(tepal) if name not in tepal.__all__ and not name.startswith("__")]
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        tepal.nothing_of_the_kind  # type: ignore[attr-defined]


WITHOUT_SSL = """
import sys

sys.modules["ssl"] = sys.modules["_ssl"] = None

import asyncio

import tepal


async def main():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"plain\\n")
    assert await reader.read() == b"plain\\n"
    writer.close()
    await writer.wait_closed()
    transport = asyncio.get_running_loop().connect(
        tepal.Protocol, host, port, layers=[tepal.Lines()]
    )
    await transport.established()
    transport.close()
    while transport.closed is None or asyncio.all_tasks() != {asyncio.current_task()}:
        await asyncio.sleep(0.001)
    server.close()
    await server.wait_closed()


tepal.run(main())
print("fine")
"""


def test_plain_tcp_works_where_python_has_no_tls() -> None:
    # S38
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_SSL],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")
