"""The engine's mid-sagittal plane of synthetic patients, against the plane that they were made with.

    python Testing/benchmarks/midplane.py [--count 24] [--seed 500] [--recipe dwi-adc] [--masks FOLDER]
        [--pictures FOLDER] [--draw 4]

Prints, over the patients, how far the estimated plane is turned from the true one, how far it lies from it in the
middle of the brain, and how the estimate judges itself. Pictures show the estimate in sky blue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from _mosaic import MISSED_RGB, SLICES, Picture, paint, row, save_rows, window
from _scans import Scan, scans_of

from strokeseg.symmetry import estimate_midplane
from strokeseg_training.generation import open_source
from strokeseg_training.generator.generator import Generator

_WINDOW = (0.0, 2.5)
_SHOWN = [s for s in SLICES if s.plane == "axial"][1::2] + [s for s in SLICES if s.plane == "coronal"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=24, help="patients (default 24)")
    parser.add_argument("--seed", type=int, default=500, help="of the first (default 500)")
    parser.add_argument("--recipe", default="dwi-adc", help="whose ranges are used (default dwi-adc)")
    parser.add_argument("--masks", help="folder with lesion masks for the generator")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw the first patients there")
    parser.add_argument("--draw", type=int, default=4, help="how many are drawn (default 4)")
    options = parser.parse_args(arguments)
    source = open_source(None, options.recipe, options.masks)
    role = "adc" if source.task == "dwi-adc" else "t1"
    generator = Generator(library=source.library)
    turned, away, quality, rows = [], [], [], []
    for seed in range(options.seed, options.seed + options.count):
        made = generator.patients(source.scenes([seed]))
        (scan,) = scans_of(made.sample)
        found = estimate_midplane(scan.brain, scan.grid.affine, np.where(scan.brain, scan.images[role], 0.0))
        estimated = replace(scan, midplane=found)
        true = np.asarray(made.anatomy.midplane[0].cpu(), dtype=np.float64)
        turned.append(float(np.degrees(np.arccos(np.clip(true[:3] @ found.normal_ras, -1.0, 1.0)))))
        centre = scan.grid.to_world(np.argwhere(scan.brain)).mean(axis=0)
        away.append(abs(float(centre @ found.normal_ras - found.offset_mm - (centre @ true[:3] - true[3]))))
        quality.append(found.quality)
        if len(rows) < options.draw:
            rows.append((f"{scan.name}: {turned[-1]:.1f} degrees, {away[-1]:.1f} mm", picture(estimated, role)))
    print(f"{options.count} patients of {options.recipe}, from seed {options.seed}")
    for name, values, unit in (("turned", turned, "degrees"), ("away", away, "mm"), ("quality", quality, "")):
        middle, high = np.percentile(values, [50, 95])
        print(f"  {name:8} median {middle:.2f}, 95 % below {high:.2f}, largest {max(values):.2f} {unit}".rstrip())
    if options.pictures is not None and rows:
        save_rows(options.pictures / "midplane.png", rows)
        print(f"Picture: {options.pictures / 'midplane.png'}")


def picture(scan: Scan, role: str) -> Picture:
    """Axial and coronal slices of one image with the scan's plane as a line a voxel wide."""
    values = np.where(scan.brain, scan.images[role], 0.0)
    black, white = _WINDOW if role == "adc" else (0.0, float(np.percentile(values[scan.brain], 99.0)))
    drawn = window(values, black, white)
    world = scan.grid.to_world(np.argwhere(np.ones(scan.grid.shape, bool)))
    distance = (world @ scan.midplane.normal_ras - scan.midplane.offset_mm).reshape(scan.grid.shape)
    paint(drawn, np.abs(distance) <= scan.grid.spacing_mm[0] / 2, MISSED_RGB, 0.8)
    return row(drawn, scan, _SHOWN)


if __name__ == "__main__":
    main()
