"""The command `tepal`, as an installation of the package has it: the one of the crate `tepal-cli`."""

from __future__ import annotations

import signal
import sys

from ._tepal import run_command


def main() -> int:
    """Run the command with the arguments of this process. Returns the exit status."""
    # Python's handler only makes a note for the interpreter, which does not run meanwhile.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
