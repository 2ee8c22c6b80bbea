"""Which part of a matrix is run: one that is drawn anew each time, or all of it, as `make soak` does."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# A failure shows it; TEPAL_SEED draws the same again.
SEED = os.environ.get("TEPAL_SEED") or str(random.SystemRandom().getrandbits(32))
# From 0 to 1; without, each matrix takes a part that is soon done.
SHARE = float(os.environ.get("TEPAL_FAULTS_SHARE") or 0)


def drawn(cases: Sequence[T], most: int) -> list[T]:
    """At most so many of the cases, or what the share says."""
    count = round(len(cases) * SHARE) if SHARE else min(most, len(cases))
    chosen = random.Random(SEED).sample(range(len(cases)), count)
    return [cases[number] for number in sorted(chosen)]
