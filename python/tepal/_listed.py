"""What our classes of transports share."""

from __future__ import annotations


class Listed:
    """Says by itself what it has: `dir` would go by `__class__`, where ours name asyncio's classes."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *getattr(self, "__dict__", ())})
