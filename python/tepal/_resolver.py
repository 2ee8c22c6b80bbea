from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from ._values import check_bool, check_int, check_seconds

# More means as much as this.
MOST = (1 << 31) - 1

@dataclass(frozen=True, kw_only=True)
class Resolver:
    """How a loop's own resolver works; give it to `new_event_loop(resolver=...)`.

    It resolves on the loop, without a thread: the hosts file, then the name servers over UDP and TCP,
    with a cache. Whatever is None is as /etc/resolv.conf says.
    """

    servers: Sequence[str | tuple[str, int]] | None = None
    """Addresses of name servers, "192.0.2.1" or ("192.0.2.1", 5353)."""
    search: Sequence[str] | None = None
    """Domains that are tried behind names with few dots."""
    ndots: int | None = None
    """A name with so many dots is tried as it is first."""
    hosts: bool = True
    """Whether the hosts file counts."""
    timeout: float | None = None
    """Seconds that the first server gets."""
    attempts: int | None = None
    """How often the servers are gone through."""
    cache_size: int = 4096
    """How many answers are kept; 0 keeps none."""

    def __post_init__(self) -> None:
        for name in ("ndots", "attempts", "cache_size"):
            number = getattr(self, name)
            if number is not None or name == "cache_size":
                check_int(name, number, 0, MOST)
        check_bool("hosts", self.hosts)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)

    def _settings(self) -> tuple[Any, ...]:
        servers = self.servers
        if servers is not None:
            servers = [(each, 53) if isinstance(each, str) else each for each in servers]
        search = None if self.search is None else list(self.search)
        return (
            servers,
            search,
            self.ndots,
            self.hosts,
            self.timeout,
            self.attempts,
            self.cache_size,
        )


@dataclass(frozen=True)
class SystemResolver:
    """The C library's resolver, on the threads of an executor: for what only NSS modules know.

    The executor has to be named, since its threads are what the loop's own resolver does without;
    None is the loop's own pool.
    """

    executor: Executor | None
