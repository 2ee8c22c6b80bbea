"""`loop.getaddrinfo` and `loop.getnameinfo` answer as the socket module does.

Over tables of what needs no name server: equal lists in equal order, or errors of equal type, number
and words. Two departures are on purpose, and left out of the tables: a port above 65535 is an error
and not another port, and `localhost` has both families though the hosts file has one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import tepal

HOSTS: list[Any] = [
    None,
    "",
    "localhost",
    "LocalHost",
    b"localhost",
    "127.0.0.1",
    b"127.0.0.1",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "256.1.1.1",
    "::1",
    "::",
    "0.0.0.0",
    "::ffff:127.0.0.1",
    "fe80::1%lo",
    "fe80::1%1",
    "fe80::1%nowhere",
    "fe80::1",
    "[::1]",
    "127.0.0.1 ",
    "a..b",
    "x" * 64,
    "255.255.255.255",
]
PORTS: list[Any] = [None, 0, 80, 65535, "", "80", b"80", "http", "domain", "nonsense", "-1", "080"]
FLAGS = [
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED,
    socket.AI_V4MAPPED | socket.AI_ALL,
    0x4000_0000,
]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 999]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 132, 999]


Question = tuple[tuple[Any, Any], dict[str, int]]


def told(error: BaseException) -> Any:
    """The type of an error, with its number and words if it is the system's."""
    if isinstance(error, OSError):
        return type(error), error.errno, error.strerror
    return type(error)


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return told(error)


def compare(questions: list[Question]) -> None:
    async def ask() -> list[Any]:
        loop = asyncio.get_running_loop()
        asked = (loop.getaddrinfo(*names, **hints) for names, hints in questions)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [told(it) if isinstance(it, BaseException) else it for it in answers]

    def theirs_of(names: tuple[Any, Any], hints: dict[str, int]) -> Any:
        found = outcome_of(lambda: socket.getaddrinfo(*names, **hints))
        if not isinstance(found, list):
            return found
        # glibc takes ::1 in the hosts file for 127.0.0.1 where that is asked for, and gives it twice,
        # the second time without the canonical name.
        return list({(it[:3], it[4]): it for it in reversed(found)}.values())[::-1]

    different = [
        f"{question}\n  ours   {ours}\n  theirs {theirs}"
        for question, ours in zip(questions, tepal.run(ask()), strict=True)
        if ours != (theirs := theirs_of(*question))
    ]
    assert not different, "\n".join([f"{len(different)} of {len(questions)}", *different])


def test_hosts_and_ports() -> None:
    compare([((host, port), {}) for host in HOSTS for port in PORTS])


def test_flags_and_families() -> None:
    hosts = [None, "127.0.0.1", "::1", "127.1", "::ffff:127.0.0.1"]
    compare(
        [
            ((host, 80), {"flags": flags, "family": family, "type": socket.SOCK_STREAM})
            for host in hosts
            for flags in FLAGS
            for family in FAMILIES
        ]
    )
    compare([(("localhost", 80), {"flags": flags, "family": socket.AF_INET}) for flags in FLAGS])


def test_types_protocols_and_services() -> None:
    compare(
        [
            (("127.0.0.1", port), {"type": type_, "proto": protocol, "flags": flags})
            for port in (80, "http", "domain", "80", None, "nonsense")
            for type_ in TYPES
            for protocol in PROTOCOLS
            for flags in (0, socket.AI_NUMERICSERV, socket.AI_PASSIVE)
        ]
    )


ADDRESSES: list[Any] = [
    ("127.0.0.1", 80),
    ("::1", 53),
    ("127.0.0.1", 1),
    ("192.0.2.1", 80),
    ("fe80::1", 80, 0, 1),
    ("127.0.0.1",),
    ("nonsense", 80),
    ("127.0.0.1", 70000),
    ("127.0.0.1", "80"),
    ("127.0.0.1", 80, 1 << 40),
    ("127.0.0.1", 80, -1),
    ("::1", 80, 1 << 70, (1 << 40) + 1),
    ("::1", 80, "x"),
    5,
]


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
def test_names_of_addresses(address: Any) -> None:
    async def ask(flags: int) -> Any:
        return await asyncio.get_running_loop().getnameinfo(address, flags)

    for flags in (
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST,
        socket.NI_NUMERICHOST | socket.NI_DGRAM,
        socket.NI_NUMERICHOST | socket.NI_NAMEREQD,
    ):
        ours = outcome_of(lambda flags=flags: tepal.run(ask(flags)))
        theirs = outcome_of(lambda flags=flags: socket.getnameinfo(address, flags))
        assert ours == theirs, flags
