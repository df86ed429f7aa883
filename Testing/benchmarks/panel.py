"""How long the panel lets its user wait, in the test harness with Slicer's real MRML.

    python Testing/benchmarks/panel.py            everything
    python Testing/benchmarks/panel.py run        whole runs with the real worker: turns of the event loop
    python Testing/benchmarks/panel.py slider     the threshold slider alone

Figures are those of the computer and of what else it is doing; where two ways are compared, they take turns.
"""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("slider", "run")


def main():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import vtk
    from slicer_harness.start import start

    chosen = sys.argv[1:] or PARTS
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    with tempfile.TemporaryDirectory() as folder:
        running = []

        def restart():
            home = Path(folder) / str(len(running))
            home.mkdir()
            running.append(start(home))  # ends the one before
            # The wheel has no colour files, which MRML tells at every chance; errors of ours come as exceptions.
            vtk.vtkObject.GlobalWarningDisplayOff()
            return running[-1]

        for part in chosen:
            __import__(f"_panel_{part}").report(restart)
        running[-1].stop()


if __name__ == "__main__":
    main()
