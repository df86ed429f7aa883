"""Whether the synthetic patients cover the real ones: the same numbers of both side by side, and the same slices drawn.

    python Testing/benchmarks/realism.py --real FOLDER ... --synthetic FOLDER ... [--pictures FOLDER] [--json FILE]
    python Testing/benchmarks/realism.py --real FOLDER ... --generator 100 [--seed 0] [--recipe NAME]

For each number: the range that holds 90 % of the synthetic patients, and each real scan with "in", or "above" or
"below" that range. Numbers that have no meaning in a scan (heights in a slab, contrast without lesion) are "-". Real
scans are only looked at: nothing is fitted to them. Pictures of them belong into a folder that version control ignores.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from _looks import Numbers, measure
from _mosaic import OUTLINE_RGB, SLICES, Picture, outline, paint, row, save_rows, window
from _places import REGIONS, Places
from _scans import Scan, read_scans, scans_of

from strokeseg.errors import InputError, StrokeSegError

LOW, HIGH = 5.0, 95.0
DWI_WINDOW, ADC_WINDOW = (0.0, 2.5), (0.0, 2.5)
_REGION_RGB = ((0, 158, 115), (213, 94, 0), (86, 180, 233))
_PER_SHEET = 4
# With fewer samples the 5th and 95th percentile are the extremes of too few to speak of coverage.
_ENOUGH = 20


@dataclass(frozen=True)
class Coverage:
    """One number of one real scan against the synthetic patients.

    Attributes:
        low: 5th percentile of the synthetic patients that have the number; NaN without any.
        median: Their median.
        high: Their 95th percentile.
        value: The real scan's; NaN where it has none.
    """

    low: float
    median: float
    high: float
    value: float

    @property
    def verdict(self) -> str:
        """``in``, ``above`` or ``below`` the synthetic range; ``-`` where either has no number."""
        if math.isnan(self.value) or math.isnan(self.low):
            return "-"
        if self.value > self.high:
            return "above"
        return "below" if self.value < self.low else "in"


def cover(synthetic: Sequence[Numbers], real: Numbers) -> dict[str, Coverage]:
    """Each number of a real scan against its range over the synthetic patients."""
    covered = {}
    for name, value in real.items():
        known = [n[name] for n in synthetic if not math.isnan(n[name])]
        low, median, high = np.percentile(known, (LOW, 50.0, HIGH)) if known else (math.nan,) * 3
        covered[name] = Coverage(float(low), float(median), float(high), value)
    return covered


def table(synthetic: Sequence[Numbers], real: dict[str, Numbers]) -> str:
    """The table for people: one line a number, one column a real scan."""
    by_scan = {name: cover(synthetic, numbers) for name, numbers in real.items()}
    names = list(synthetic[0] if synthetic else next(iter(real.values())))
    ranges = cover(synthetic, dict.fromkeys(names, math.nan))
    head = f"{'':40}{'synthetic: 5 %':>15}{'median':>9}{'95 %':>9}  " + "".join(f"{n[:16]:>18}" for n in real)
    lines, section = [head], ""
    for name in names:
        before, _, title = name.partition(": ")
        if before != section:
            section = before
            lines.append(before.upper())
        known = ranges[name]
        text = f"  {title:38}{_figure(known.low):>15}{_figure(known.median):>9}{_figure(known.high):>9}  "
        for scan in real:
            one = by_scan[scan][name]
            mark = {"in": "in", "-": ""}.get(one.verdict, one.verdict)
            text += f"{_figure(one.value):>11} {mark:<6}"
        lines.append(text.rstrip())
    lines.append("")
    for scan, covered in by_scan.items():
        verdicts = [c.verdict for c in covered.values() if c.verdict != "-"]
        lines.append(f"{scan}: {verdicts.count('in')} of {len(verdicts)} numbers COVERED")
        for verdict in ("above", "below"):
            outside = [name for name, c in covered.items() if c.verdict == verdict]
            lines += wrap("; ".join(outside), 118, initial_indent=f"  {verdict}: ", subsequent_indent="    ")
    if 0 < len(synthetic) < _ENOUGH:
        lines.append(f"Only {len(synthetic)} synthetic patient(s): the range is theirs, not the generator's.")
    return "\n".join(lines)


def sheet_rows(scan: Scan, *, regions: bool = False) -> list[tuple[str, Picture]]:
    """DWI and ADC of one patient in the slices and windows that all patients share; the reference is outlined."""
    dwi = window(scan.space.channel("dwi_ratio"), *DWI_WINDOW)
    adc = window(np.where(scan.brain, scan.images["adc"], 0.0), *ADC_WINDOW)
    rows = []
    for title, picture in ((f"{scan.name}: DWI 0-2.5 of normal tissue", dwi), ("ADC 0-2.5", adc)):
        parts = []
        for wanted in SLICES:
            drawn = picture.copy()
            if scan.lesion is not None:
                paint(drawn, outline(scan.lesion, wanted.plane), OUTLINE_RGB, 1.0)
            if regions:
                places = Places(scan)
                for name, rgb in zip(REGIONS, _REGION_RGB, strict=True):
                    paint(drawn, outline(places.core(name), wanted.plane), rgb, 0.6)
            parts.append(row(drawn, scan, [wanted]))
        height = max(p.shape[0] for p in parts)
        together = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in parts]
        rows.append((title, np.concatenate(together, axis=1)))
    return rows


def save_sheets(folder: Path, scans: Sequence[Scan], name: str, *, regions: bool = False) -> list[Path]:
    """Contact sheets of several patients, a few on each."""
    files = []
    for start in range(0, len(scans), _PER_SHEET):
        rows = [r for scan in scans[start : start + _PER_SHEET] for r in sheet_rows(scan, regions=regions)]
        files.append(folder / f"{name}-{start // _PER_SHEET + 1:02d}.png")
        save_rows(files[-1], rows)
    return files


def generate(
    count: int, seed: int, recipe: str | None = None, masks: str | None = None, changes: Sequence[str] = ()
) -> Iterator[Scan]:
    """Patients of the generator, one after the other.

    Args:
        count: How many.
        seed: Of the first; the next ones follow.
        recipe: Name or file of a recipe with ranges and lesion masks; None: the default ranges.
        masks: Folder with lesion masks; None: the recipe's, or procedural lesions only.
        changes: ``ROOM.FIELD=VALUE``, single ranges.
    """
    from strokeseg_training.generation import open_source
    from strokeseg_training.generator.generator import Generator

    source = open_source("dwi-adc", recipe, masks, changes)
    generator = Generator(library=source.library)
    for number in range(seed, seed + count):
        yield from scans_of(generator.make(source.scenes([number])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, draw where asked, and return the exit code."""
    options = _options(arguments)
    try:
        synthetic, left_out = read_scans(options.synthetic)
        shown = synthetic[: options.draw]
        measured = {scan.name: measure(scan) for scan in synthetic}
        if options.generator:
            for scan in generate(options.generator, options.seed, options.recipe, options.masks, options.set):
                measured[scan.name] = measure(scan)
                shown += [scan] * (len(shown) < options.draw)
        real, more = read_scans(options.real)
        if not measured and not real:
            raise InputError(
                "There is nothing to measure.", " ".join([*left_out, *more]) or "No folder was named.",
                "Name folders with DWI and ADC by --real and --synthetic, or use --generator.",
            )  # fmt: skip
        numbers = {scan.name: measure(scan) for scan in real}
        if options.pictures is not None:
            for name, scans in (("synthetic", shown), ("real", real)):
                files = save_sheets(options.pictures, scans, name, regions=options.regions)
                print("\n".join(f"Picture: {f}" for f in files))
    except StrokeSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for sentence in (*left_out, *more):
        print(f"Left out: {sentence}")
    print(table(list(measured.values()), numbers))
    if options.json is not None:
        options.json.write_text(json.dumps(_plain(measured, numbers), indent=1) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Synthetic against real patients, in numbers and pictures.")
    parser.add_argument("--real", nargs="*", type=Path, default=[], help="folders with real cases (DWI, ADC, mask)")
    parser.add_argument("--synthetic", nargs="*", type=Path, default=[], help="folders with synthetic cases")
    parser.add_argument("--generator", type=int, default=0, metavar="N", help="draw N patients with the generator")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the generator (default 0)")
    parser.add_argument("--recipe", help="recipe (name or file) with the generator's ranges and lesion masks")
    parser.add_argument("--masks", help="folder with lesion masks for the generator")
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.FIELD=VALUE", help="one range, as JSON")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw contact sheets there (ignored folder!)")
    parser.add_argument("--draw", type=int, default=8, help="at most so many synthetic patients are drawn (default 8)")
    parser.add_argument("--regions", action="store_true", help="outline the measured regions in the pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    return parser.parse_args(arguments)


def _figure(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _plain(synthetic: dict[str, Numbers], real: dict[str, Numbers]) -> dict[str, object]:
    """Everything as data for JSON, None for what has no meaning."""

    def clean(numbers: Numbers) -> dict[str, float | None]:
        return {k: None if math.isnan(v) else v for k, v in numbers.items()}

    coverage = {
        name: {k: {**clean(vars(c)), "verdict": c.verdict} for k, c in cover(list(synthetic.values()), numbers).items()}
        for name, numbers in real.items()
    }
    return {
        "synthetic": {name: clean(n) for name, n in synthetic.items()},
        "real": {name: clean(n) for name, n in real.items()},
        "coverage": coverage,
    }


if __name__ == "__main__":
    sys.exit(main())
