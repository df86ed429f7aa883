"""``strokeseg`` and ``python -m strokeseg``: the command line, or the worker, which starts without the command line."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the command ``strokeseg``."""
    # Before numpy is loaded: its matrices are small here, and threads for them get in the way of the network's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:] == ["worker"]:
        from strokeseg.worker import main as work  # noqa: PLC0415  either of the two, never both

        work()
        return
    from strokeseg.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
