"""Audit hooks hear on tepal's loop what they hear on asyncio's."""

from __future__ import annotations

PROGRAM = """
import asyncio, socket, sys
import tepal
heard, refused = [], None

def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "tepal.")):
        if event == refused:
            raise PermissionError(event)
        # Objects and what differs from run to run are known by their types. The numbers of a socket
        # that was accepted are those of the one that listened; here the kernel is asked for them.
        shown = [port(argument) for argument in arguments][: 1 if event == "socket.__new__" else None]
        heard.append((event, *[argument if isinstance(argument, (str, int, tuple, list)) else type(argument).__name__ for argument in shown]))

def port(argument):
    return (argument[0], "port") if isinstance(argument, tuple) and len(argument) == 2 and argument[1] else argument

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"x")

async def accept(address, **keywords):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, *address, **keywords)
    await asyncio.sleep(0.05)
    transport.close()
    await asyncio.sleep(0.01)

async def main():
    global refused
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60  # The machine may be busy.
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(type(context["exception"]).__name__))
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    sys.addaudithook(hook)
    await accept(address)
    await accept(address, local_addr=("127.0.0.1", 0))
    await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    own = endpoint.get_extra_info("sockname")
    endpoint.sendto(b"x", own)
    endpoint.sendto(b"x", own)
    endpoint.close()
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    for refused in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        for what in (
            loop.create_connection(asyncio.Protocol, *address),
            loop.getaddrinfo("localhost", 1),
            asyncio.create_subprocess_exec("true"),
        ):
            try:
                made = await what
                if isinstance(made, tuple):
                    made[0].close()
                elif not isinstance(made, list):
                    await made.wait()
            except PermissionError as error:
                heard.append(("refused", str(error)))
            await asyncio.sleep(0.01)
    refused = "socket.sendto"
    lost = loop.create_future()
    class Endpoint(asyncio.DatagramProtocol):
        def error_received(self, error):
            lost.set_result(repr(error))
        def connection_lost(self, error):
            lost.done() or lost.set_result(repr(error))
    endpoint, _ = await loop.create_datagram_endpoint(Endpoint, local_addr=("127.0.0.1", 0))
    endpoint.sendto(b"x", endpoint.get_extra_info("sockname"))
    heard.append((await lost, reports))
    endpoint.close()
    refused = None
    server.close()
    await asyncio.sleep(0.01)

factory = {"asyncio": asyncio.SelectorEventLoop, "tepal": tepal.new_event_loop}[sys.argv[1]]
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
for line in heard:
    print(line)
"""


def test_hooks_hear_what_they_hear_on_asyncio(program):
    expected, ended = program(PROGRAM, "asyncio"), program(PROGRAM, "tepal")
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert ended.stdout == expected.stdout
    assert "socket.connect" in ended.stdout and "socket.sendto" in ended.stdout


REFUSING = """
import asyncio, socket, sys
import tepal

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(type(context["exception"]).__name__))
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    client = socket.socket()
    client.setblocking(False)
    refuses = True
    def hook(event, arguments):
        if refuses and event == "socket.__new__":
            raise PermissionError(event)
    sys.addaudithook(hook)
    await loop.sock_connect(client, server.sockets[0].getsockname())
    # Who may not have a socket has no connection.
    got = await loop.sock_recv(client, 1)
    refuses = False
    client.close()
    server.close()
    print(got, reports)

tepal.run(main())
"""


def test_a_connection_whose_socket_a_hook_refuses_is_not_accepted(program):
    ended = program(REFUSING)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("b'' ['PermissionError']\n", "", 0)


CONNECTING = """
import asyncio, sys
import tepal

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60
    heard = []
    sys.addaudithook(lambda event, arguments: event.startswith("tepal.") and heard.append((event, *arguments)))
    transport = loop.connect(tepal.Protocol, "127.0.0.1", 1)
    transport.abort()
    await asyncio.sleep(0)
    print(heard)

tepal.run(main())
"""


def test_a_connection_of_the_loops_own_is_told(program):
    ended = program(CONNECTING)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("[('tepal.connect', '127.0.0.1', 1, None)]\n", "", 0)
