"""Where a hostile argument may have another outcome than in asyncio, each with its reason."""

from __future__ import annotations

import re

# A pattern of "method(parameter=value)"; why. Panics and the like are never allowed.
ALLOWED: dict[str, str] = {
    r"add_signal_handler\(callback=.*": "asyncio takes anything, and the signal then fails in the loop",
    r"call_(at|later)\((when|delay)=nan\)": "asyncio's heap loses its order",
    r"subprocess_(shell|exec)\(protocol_factory=.*": "whether the call hears of it depends on when the child ends",
    r"add_(reader|writer)\(fd=True\)": "3.13 warns of a bool",
    r"set_task_factory\(factory=.*": "who hears first that it makes no task differs",
    r".*\(happy_eyeballs_delay=nan\)": "likewise",
    r"(write|sendto)\(data=(view with gaps|released view)\)": "asyncio ends the connection; ours tells the caller",
    r"write\(data=view (in two dimensions|of doubles)\)": "asyncio's pipe counts items where the kernel counts bytes",
    r"writelines\(list_of_data=.*": "asyncio's TLS ends the connection; ours tells the caller",
    r"(create_connection|connect_accepted_socket|create_unix_connection|connect_.*_pipe)\(protocol_factory=.*": (
        "asyncio looks for connection_made before the call returns, ours when it calls it"
    ),
    r".*\((host|port|proto)=(.*view.*|.*pipe|foreign future)\)": "who looks at it first differs",
    r"getaddrinfo\((family|type|flags)=released view\)": "likewise",
    r"sock_sendfile\(file=.*(socket|pipe|map)\)": "asyncio sends nothing of what has no size",
    r"connect_(read|write)_pipe\(pipe=(text )?file\)": "epoll cannot watch it, and asyncio's reader fails in the loop",
    r"connect_(read|write)_pipe\(pipe=unconnected socket\)": "when it is found out differs",
    r"(sock_)?sendfile\((offset|count)=2\*\*.*": "asyncio asks the kernel, ours knows how large the file is",
    r"getaddrinfo\(port=-?2\*\*.*": "the C function has other limits in each version",
    r"getaddrinfo\(port=True\)": "asyncio's is no number for the C function",
    r".*\(host=(bytes|lone surrogate)\)": "another kind of UnicodeError, or the resolver's",
    r"sendto\(addr=(lone surrogate|tuple.*)\)": "another kind of error, which ends the endpoint all the same",
}  # fmt: skip


def allowed(call: str) -> bool:
    return any(re.fullmatch(pattern, call) for pattern in ALLOWED)
