"""A peer that speaks TLS by Python's ssl module and ends as it is told.

    tls_peer.py server VERSION CERT KEY CA    prints its ports: one for all, one that wants a certificate
    tls_peer.py client VERSION PORT CA ENDING...

Each connection carries one line that names the ending, the answer "ok" (but for "deaf" and
"take"), and then the ending.
"""

import select
import socket
import ssl
import struct
import sys


def version_of(context, name):
    version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[name]
    context.minimum_version = context.maximum_version = version
    return context


def quick(raw):
    # Else a reset can throw away what Nagle still holds.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def end(connection, ending):
    if ending == "bye":
        # close_notify, and then the peer's.
        connection.unwrap().close()
    elif ending == "wait":
        # The peer is first: its close_notify is answered.
        assert connection.recv(100) == b""
        connection.unwrap().close()
    elif ending == "half":
        # The peer has only ended its writing.
        assert connection.recv(100) == b""
        connection.sendall(b"rest" * 10_000)
        connection.unwrap().close()
    elif ending == "cut":
        # The bytes end without a word.
        connection.shutdown(socket.SHUT_WR)
        connection.close()
    elif ending == "silent":
        # Nothing is said, and nothing heard, until the connection is gone.
        raw = socket.socket(fileno=connection.detach())
        while raw.recv(4096):
            pass
        raw.close()
    elif ending == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    elif ending == "deaf":
        # It leaves with everything unread that has come since the handshake, tickets too.
        connection.close()
    elif ending == "take":
        count = 0
        while block := connection.recv(65536):
            count += len(block)
        print("took", count, "", flush=True)
        connection.close()
    elif ending == "echo":
        while block := connection.recv(65536):
            connection.sendall(block)
        connection.unwrap().close()
    else:
        raise ValueError(ending)


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece:
            return None
        line += piece
    return line.decode().strip()


def serve(version, certificate, key, ca):
    context = version_of(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    context.load_cert_chain(certificate, key)
    strict = version_of(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    strict.load_cert_chain(certificate, key)
    strict.load_verify_locations(ca)
    strict.verify_mode = ssl.CERT_REQUIRED
    listeners = {socket.create_server(("127.0.0.1", 0)): each for each in (context, strict)}
    print("ports", *(listener.getsockname()[1] for listener in listeners), "", flush=True)
    while True:
        for listener in select.select(list(listeners), [], [])[0]:
            raw = quick(listener.accept()[0])
            try:
                connection = listeners[listener].wrap_socket(raw, server_side=True)
                if ending := read_line(connection):
                    if ending != "take":  # its peer may have left already
                        connection.sendall(b"ok\n")
                    end(connection, ending)
                    print("done", ending, flush=True)
            except OSError as error:
                print("error", type(error).__name__, error, flush=True)


def connect(version, port, ca, endings):
    for ending in endings:
        context = version_of(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), version)
        if ending != "distrust":
            context.load_verify_locations(ca)
        raw = quick(socket.create_connection(("127.0.0.1", int(port))))
        try:
            connection = context.wrap_socket(raw, server_hostname="localhost")
            connection.sendall(ending.encode() + b"\n")
            if ending != "deaf":
                assert read_line(connection) == "ok"
            end(connection, ending)
            print("done", ending, flush=True)
        except OSError as error:
            raw.close()
            print("error", ending, type(error).__name__, error, flush=True)


if sys.argv[1] == "server":
    serve(*sys.argv[2:])
else:
    connect(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
