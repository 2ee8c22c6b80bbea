"""What our classes of transports share."""

from __future__ import annotations


class Listed:
    """Says by itself what it has: `dir` would go by `__class__`, where ours name asyncio's classes."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        own = type(self)
        # Without the names that a class has only to take them away.
        names = [name for name in dir(own) if hasattr(own, name)]
        return sorted({*names, *getattr(self, "__dict__", ())})
