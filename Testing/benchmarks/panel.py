"""How long the panel lets its user wait, in the test harness with Slicer's real MRML.

    python Testing/benchmarks/panel.py

Figures are those of the computer and of what else it is doing; where two ways are compared, they take turns.
"""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("_panel_slider",)


def main():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from slicer_harness.start import start

    for part in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            environment = start(Path(folder))
            __import__(part).report()
            environment.stop()


if __name__ == "__main__":
    main()
