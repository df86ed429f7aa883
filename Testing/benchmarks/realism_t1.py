"""Whether the synthetic T1-weighted patients cover the real ones; `realism.py` does the same for DWI and ADC.

    python Testing/benchmarks/realism_t1.py --real FOLDER ... [--generator 40] [--recipe t1] [--pictures FOLDER]

Real scans pass through the engine's own preparation on the grid of the generator's task. They are only looked at:
nothing is fitted to them. Pictures of them belong into a folder that version control ignores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from _looks import Numbers
from _looks_t1 import measure_t1
from _mosaic import OUTLINE_RGB, SLICES, Picture, outline, paint, row, save_rows, window
from _scans import Scan, find_cases, open_case, reference_of, scans_of
from realism import table

from strokeseg.case import CaseFiles
from strokeseg.errors import InputError, StrokeSegError
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.models.card import ModelInput, Preparation
from strokeseg.prepare import prepare

# The engine's channel `t1_zscore` in a window that shows fluid, scars and both tissues.
_WINDOW = (-2.8, 2.0)
_PER_SHEET = 6


def read_t1(files: CaseFiles, spacing_mm: tuple[float, float, float]) -> Scan:
    """A case with a T1-weighted image, prepared by the engine.

    Raises:
        InputError: It cannot be read, or has no T1-weighted image.
    """
    if "t1" not in files.files:
        raise InputError("This case has no T1-weighted image.", f"'{files.name}' has others.", "Name another folder.")
    rule = ModelStore().card("adc-threshold")
    card = replace(
        rule,
        inputs=(ModelInput("t1", required=True),),
        reference_role="t1",
        preparation=Preparation(spacing_mm=spacing_mm, margin_voxels=4, multiple=16, channels=("brain",)),
    )
    prepared = prepare(open_case(files), card, Monitor())
    grid, volume = prepared.model_grid, prepared.corrected.volumes["t1"]
    lesion = reference_of(files, prepared.reference.grid)
    return Scan(
        files.name,
        grid.grid,
        {"t1": grid.forward(volume.array, volume.grid)},
        prepared.channels[0] > 0.5,
        prepared.midplane,
        None if lesion is None else grid.forward(lesion, interpolation="linear") >= 0.5,
    )


def sheet_row(scan: Scan) -> tuple[str, Picture]:
    """One patient in the slices and the window that all share; the reference is outlined."""
    picture = window(scan.space.channel("t1_zscore"), *_WINDOW)
    picture[~scan.brain] = 0
    parts = []
    for wanted in SLICES:
        drawn = picture.copy()
        if scan.lesion is not None:
            paint(drawn, outline(scan.lesion, wanted.plane), OUTLINE_RGB, 1.0)
        parts.append(row(drawn, scan, [wanted]))
    height = max(p.shape[0] for p in parts)
    together = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in parts]
    ml = 0.0 if scan.lesion is None else float(scan.lesion.sum()) * scan.grid.voxel_ml
    return f"{scan.name}: T1, label {ml:.1f} ml", np.concatenate(together, axis=1)


def save_sheets(folder: Path, scans: Sequence[Scan], name: str) -> list[Path]:
    """Contact sheets of several patients, a few on each."""
    files = []
    for start in range(0, len(scans), _PER_SHEET):
        files.append(folder / f"{name}-{start // _PER_SHEET + 1:02d}.png")
        save_rows(files[-1], [sheet_row(scan) for scan in scans[start : start + _PER_SHEET]])
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, draw where asked, and return the exit code."""
    from strokeseg_training.generation import open_source
    from strokeseg_training.generator.generator import Generator
    from strokeseg_training.generator.scene import GRIDS

    options = _options(arguments)
    try:
        real = [read_t1(files, GRIDS["t1"][1]) for files in find_cases(options.real)] if options.real else []
        source = open_source("t1", options.recipe, options.masks, options.set)
        generator = Generator(library=source.library)
        synthetic: list[Numbers] = []
        shown: list[Scan] = []
        for seed in range(options.seed, options.seed + options.generator):
            for scan in scans_of(generator.make(source.scenes([seed]))):
                synthetic.append(measure_t1(scan))
                shown += [scan] * (len(shown) < options.draw)
        if not synthetic and not real:
            raise InputError("There is nothing to measure.", "No patient was named.", "Use --real or --generator.")
        numbers = {scan.name: measure_t1(scan) for scan in real}
        if options.pictures is not None:
            files = save_sheets(options.pictures, shown, "synthetic-t1") + save_sheets(
                options.pictures, real, "real-t1"
            )
            print("\n".join(f"Picture: {f}" for f in files))
    except StrokeSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(synthetic, numbers))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Synthetic against real T1-weighted patients, in numbers and pictures."
    )
    parser.add_argument("--real", nargs="*", type=Path, default=[], help="folders with real cases (T1, mask)")
    parser.add_argument("--generator", type=int, default=40, metavar="N", help="draw N patients (default 40)")
    parser.add_argument("--seed", type=int, default=500, help="first seed of the generator (default 500)")
    parser.add_argument("--recipe", default="t1", help="recipe (name or file) with the generator's ranges")
    parser.add_argument("--masks", help="folder with lesion masks for the generator")
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.FIELD=VALUE", help="one range, as JSON")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw contact sheets there (ignored folder!)")
    parser.add_argument(
        "--draw", type=int, default=12, help="at most so many synthetic patients are drawn (default 12)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
