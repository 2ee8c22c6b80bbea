"""What programs for asyncio ask of a TLS connection, answered of a layer of tepal's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._records import TLSInfo


def fact_of(name: str, info: TLSInfo, recipe: Any, server_side: bool | None) -> Any:
    """The answer to `get_extra_info`: "cipher", "compression", "peercert", "ssl_object" or "sslcontext"."""
    found = TLSObject(info, recipe, server_side)
    if name == "ssl_object":
        return found
    if name == "sslcontext":
        return found.context
    return found.getpeercert() if name == "peercert" else getattr(found, name)()


class TLSObject:
    """Answers what an `ssl.SSLObject` answers once its handshake is done. It reads and writes nothing.

    What programs ask most: which protocol was agreed on, which version, who the peer is.
    """

    def __init__(self, info: TLSInfo, recipe: Any, server_side: bool | None) -> None:
        self._info = info
        self.context = getattr(recipe, "context", recipe)
        """What `ssl=` or `start_tls` was given, true in a test; None for a layer that came otherwise."""
        self.server_side = server_side
        """Which side we are; None for a layer that came otherwise."""
        self.server_hostname = None if server_side else info.server_name
        """The host that a client verified."""
        self.session_reused = info.resumed
        """Whether an earlier session was resumed."""
        self.session = None
        """Sessions are kept by the recipe."""

    def version(self) -> str:
        """ "TLSv1.3" or "TLSv1.2"."""
        return self._info.version

    def cipher(self) -> tuple[str, str, int | None]:
        """The cipher suite by its IANA name, the version, and the bits of its key."""
        name = self._info.cipher
        bits = next((bits for word, bits in _BITS.items() if word in name), None)
        return name, self._info.version, bits

    def selected_alpn_protocol(self) -> str | None:
        """The protocol agreed on."""
        alpn = self._info.alpn
        return None if alpn is None else alpn.decode("ascii", "replace")

    def selected_npn_protocol(self) -> None:
        """None: ALPN has replaced it."""

    def compression(self) -> None:
        """None: tepal's TLS does not compress."""

    def shared_ciphers(self) -> None:
        """None: what the client offered is not kept."""

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's certificate, in DER or as `ssl` tells it; None if it sent none."""
        certificates = self._info.peer_certificates
        if not certificates:
            return None
        return certificates[0] if binary_form else _decoded(certificates[0])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._info!r}>"


# By a part of the suite's name.
_BITS = {"AES_128": 128, "AES_256": 256, "AES128": 128, "AES256": 256, "CHACHA20": 256}


def _decoded(der: bytes) -> dict[str, Any] | None:
    # By the interpreter's own decoder, which takes a file in PEM. It has no public name, so where it
    # has none at all there is no answer.
    try:
        import ssl

        decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
        file = os.memfd_create("certificate")
    except (ImportError, AttributeError):
        return None
    try:
        os.write(file, ssl.DER_cert_to_PEM_cert(der).encode())
        return decode(f"/proc/self/fd/{file}")  # type: ignore[no-any-return]
    finally:
        os.close(file)
