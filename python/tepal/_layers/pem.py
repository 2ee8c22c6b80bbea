"""Certificates and keys, from files or from PEM bytes."""

from __future__ import annotations

import os
from pathlib import Path

from .. import _tepal
from .._values import kind_of

PemSource = str | os.PathLike[str] | bytes


def _pem(name: str, source: object) -> bytes:
    if isinstance(source, (bytes, bytearray)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or PEM bytes, not {kind_of(source)}")
    return Path(os.fsdecode(source)).read_bytes()


def _named(name: str, source: object) -> str:
    if isinstance(source, (bytes, bytearray)):
        return name
    return f"{name} ({os.fsdecode(source)!r})"  # type: ignore[arg-type]


def roots_of(name: str, source: PemSource) -> _tepal.Roots:
    pem = _pem(name, source)
    try:
        return _tepal.Roots(pem)
    except ValueError as error:
        raise ValueError(f"{_named(name, source)}: {error}") from None


def certificate_of(chain: PemSource | None, key: PemSource | None) -> _tepal.Certificate | None:
    if chain is None:
        return None
    chain_pem = _pem("certificate", chain)
    key_pem = chain_pem if key is None else _pem("key", key)
    try:
        return _tepal.Certificate(chain_pem, key_pem)
    except ValueError as error:
        where = _named("certificate", chain)
        if key is not None:
            where += " with " + _named("key", key)
        raise ValueError(f"{where}: {error}") from None


def platform_roots(needed: bool) -> _tepal.Roots | None:
    try:
        return _tepal.Roots.of_platform()
    except FileNotFoundError:
        # A server can do without; a client finds nobody to trust.
        if needed:
            raise
        return None
