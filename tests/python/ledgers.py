"""What a process has open."""

from __future__ import annotations

import os


def descriptors() -> set[tuple[int, str]]:
    """The open descriptors with what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            pass  # The one that listed them.
    return found
