"""Where a model errs, and which property of the generator could be behind it.

    python Testing/benchmarks/errors.py MODEL FOLDER [FOLDER ...] [--json FILE] [--pictures FOLDER] [--largest 5]

MODEL is the name of an installed model or a model folder; each FOLDER holds cases (dwi, adc, and a reference mask, or
none: then everything found is a false positive). Every case runs through the engine's own `segment`. Heights and
regions are those of the brain's own frame and are left out for slabs without vertex or skull base. Pictures of real
scans belong into a folder that version control ignores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _causes import Component, cause_of_false, cause_of_missed
from _error_bins import ADC_NAMES, DWI_NAMES, Bins, Compared, Describer
from _mosaic import FALSE_RGB, FOUND_RGB, MISSED_RGB, paint, row, save_rows, window
from _scans import Scan, find_cases, open_case, reference_of

from strokeseg.case import CaseFiles
from strokeseg.errors import InputError, StrokeSegError
from strokeseg.metrics import Metrics, evaluate_masks, summarise_cohort
from strokeseg.models import read_card
from strokeseg.report.plane import choose_slices, robust_window, to_canonical
from strokeseg.runtime import KeptRuntimes
from strokeseg.segmentation import Segmentation, segment
from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid

_PICTURE_SLICES = 7


@dataclass(frozen=True)
class CaseErrors:
    """What one case shows.

    Attributes:
        name: Of the case.
        has_reference: Whether there was one; without it everything found is false.
        metrics: Agreement with the reference.
        lower_two_fifths_ml: False positives in the lower two fifths of the brain's height; None in a slab.
        false_bins: Millilitres of false positives: how they are sorted, bin, ml.
        missed_bins: Likewise of missed lesion.
        false_components: Components that touch no reference voxel, largest first.
        missed_components: Reference components that were not touched, largest first.
    """

    name: str
    has_reference: bool
    metrics: Metrics
    lower_two_fifths_ml: float | None
    false_bins: Bins
    missed_bins: Bins
    false_components: list[Component]
    missed_components: list[Component]


def analyse(compared: Compared) -> CaseErrors:
    """Sort the errors of one case."""
    scan, describer = compared.scan, Describer(compared)
    return CaseErrors(
        name=scan.name,
        has_reference=scan.lesion is not None,
        metrics=evaluate_masks(compared.found, compared.reference, scan.grid.affine, brain=scan.brain),
        lower_two_fifths_ml=describer.lower_two_fifths_ml(),
        false_bins=describer.false_bins(),
        missed_bins=describer.missed_bins(),
        false_components=describer.false_components(),
        missed_components=describer.missed_components(),
    )


def compare(files: CaseFiles, done: Segmentation) -> Compared:
    """A segmentation and the case's reference, both turned to axes close to (R, A, S)."""
    reference = reference_of(files, done.grid)

    def turned(array: Any) -> Any:
        return np.ascontiguousarray(to_canonical(array, done.affine)[0])

    mask, affine = to_canonical(done.mask, done.affine)
    place = done.summary["midplane"]
    right, front, top = place["normal_ras"]
    scan = Scan(
        files.name,
        Grid((mask.shape[0], mask.shape[1], mask.shape[2]), affine),
        {role: turned(image) for role, image in done.images.items()},
        turned(done.brain),
        Midplane((right, front, top), place["offset_mm"], place["quality"], ""),
        None if reference is None else turned(reference),
    )
    return Compared(scan, turned(done.mask) > 0, None if done.tissue is None else turned(done.tissue))


@contextmanager
def at_hand(model: str) -> Iterator[str]:
    """The name under which the engine finds a model that is given by name or as a folder."""
    folder = Path(model)
    if not (folder / "card.json").is_file():
        yield model
        return
    name = read_card(folder).name
    before = os.environ.get("STROKESEG_RESOURCES")
    # Alone in a place of its own: an installed model of the same name must not be taken for it.
    with tempfile.TemporaryDirectory(prefix="strokeseg-errors-") as place:
        shutil.copytree(folder, Path(place) / "Models" / name)
        os.environ["STROKESEG_RESOURCES"] = place
        try:
            yield name
        finally:
            if before is None:
                del os.environ["STROKESEG_RESOURCES"]
            else:
                os.environ["STROKESEG_RESOURCES"] = before


def draw(folder: Path, compared: Compared, case: CaseErrors) -> Path:
    """The slices with most errors, plain above and with found, false and missed voxels coloured below."""
    scan = compared.scan
    errors = (compared.false | compared.missed).sum(axis=(0, 1))
    slices = choose_slices(errors, scan.brain.sum(axis=(0, 1)), _PICTURE_SLICES)
    zoom = max(1, round(3 * scan.grid.spacing_mm[0] / 2.0))
    if {"dwi", "adc"} <= set(scan.images):
        first = window(scan.space.channel("dwi_ratio"), 0.0, 2.5)
        second = ("ADC 0-2.5", window(np.where(scan.brain, scan.images["adc"], 0.0), 0.0, 2.5))
    else:
        image = next(iter(scan.images.values()))
        low, high = robust_window(image, scan.brain)
        first = window(np.where(scan.brain, image, low), low, high)
        second = ("", first)
    coloured = first.copy()
    true = compared.found & compared.reference
    for mask, rgb in ((true, FOUND_RGB), (compared.false, FALSE_RGB), (compared.missed, MISSED_RGB)):
        paint(coloured, mask, rgb, 0.75)
    key = "green: found, orange: false, blue: missed"
    ml = case.metrics.false_positive_ml
    title = f"{scan.name}: Dice {case.metrics.dice:.2f}, false {ml:.2f} ml; {key}; slices {', '.join(map(str, slices))}"
    path = folder / f"{scan.name.replace('/', '-')}-errors.png"
    pictures = [(title, coloured), ("", first), second]
    save_rows(path, [(text, row(picture, scan, slices, zoom)) for text, picture in pictures])
    return path


def report(case: CaseErrors, largest: int) -> str:
    """One case as text."""
    m = case.metrics
    lower = "-" if case.lower_two_fifths_ml is None else f"{case.lower_two_fifths_ml:.3f} ml"
    lines = [f"== {case.name}" + ("" if case.has_reference else " (no reference: everything found is false)")]
    if case.has_reference and m.reference_voxels:
        lines += [
            f"   Dice {m.dice:.3f}  precision {m.precision:.3f}  recall {m.sensitivity:.3f}  "
            f"lesion F1 {m.lesion_f1:.3f}  reference {m.reference_ml:.2f} ml in {m.reference_lesions}, "
            f"found {m.prediction_ml:.2f} ml in {m.prediction_lesions}",
            "   lesions found: "
            + ", ".join(f"{s.stratum}: {s.found} of {s.lesions}" for s in m.recall_by_size),
        ]  # fmt: skip
    lines.append(
        f"   false positives {m.false_positive_ml:.3f} ml in {len(case.false_components)} components of their own; "
        f"in the lower two fifths {lower}"
    )
    lines += _bins_text(case.false_bins, case.missed_bins)
    for title, components, cause in (
        ("largest false components", case.false_components, cause_of_false),
        ("largest missed lesions", case.missed_components, cause_of_missed),
    ):
        if components and largest:
            lines.append(f"   {title}:")
            for component in components[:largest]:
                lines += [f"     {component.words()}", f"       -> {cause(component)}"]
    return "\n".join(lines)


def pooled_report(cases: Sequence[CaseErrors]) -> str:
    """All cases together as text."""
    summary = summarise_cohort([c.metrics for c in cases], patients=[c.name for c in cases], resamples=999)
    lines = [f"== all {len(cases)} cases"]
    if summary.lesion_positive.cases:
        means = {k: s.mean for k, s in summary.lesion_positive.statistics.items()}
        lines.append(
            f"   with lesion ({summary.lesion_positive.cases}): mean Dice {means['dice']:.3f}  precision "
            f"{means['precision']:.3f}  recall {means['sensitivity']:.3f}  lesion F1 {means['lesion_f1']:.3f}  "
            f"false positives {means['false_positive_ml']:.3f} ml"
        )
        found = ", ".join(f"{s.stratum}: {s.found} of {s.lesions}" for s in summary.recall_by_size)
        lines.append(f"   lesions found: {found}")
    if summary.reference_empty.cases:
        mean = summary.reference_empty.statistics["false_positive_ml"].mean
        lines.append(f"   without lesion ({summary.reference_empty.cases}): mean false positives {mean:.3f} ml")
    lower = [c.lower_two_fifths_ml for c in cases if c.lower_two_fifths_ml is not None]
    if lower:
        lines.append(f"   lower two fifths: {sum(lower):.3f} ml false positives, at most {max(lower):.3f} ml in a case")
    lines += _bins_text(pooled([c.false_bins for c in cases]), pooled([c.missed_bins for c in cases]))
    for title, groups in (
        ("false components", [(cause_of_false(x), x.ml) for c in cases for x in c.false_components]),
        ("missed lesions", [(cause_of_missed(x), x.ml) for c in cases for x in c.missed_components]),
    ):
        if groups:
            lines.append(f"   what {title} speak of, by volume:")
            sums: dict[str, list[float]] = {}
            for sentence, ml in groups:
                sums.setdefault(sentence, []).append(ml)
            for sentence, volumes in sorted(sums.items(), key=lambda item: -sum(item[1])):
                lines.append(f"     {sum(volumes):7.2f} ml in {len(volumes):3}: {sentence}")
    return "\n".join(lines)


def pooled(many: Sequence[Bins]) -> Bins:
    """The sums of several cases' bins."""
    sums: Bins = {}
    for bins in many:
        for kind, values in bins.items():
            into = sums.setdefault(kind, dict.fromkeys(values, 0.0))
            for name, ml in values.items():
                into[name] = into.get(name, 0.0) + ml
    return sums


def _bins_text(false: Bins, missed: Bins) -> list[str]:
    if not any(ml for bins in (false, missed) for values in bins.values() for ml in values.values()):
        return []
    lines = [f"   {'ml':42}{'false':>9}{'missed':>9}"]
    for kind, values in false.items():
        if kind != "contrast":
            lines.append(f"   {kind}")
            lines += [f"     {n:40}{v:9.3f}{missed[kind].get(n, 0.0):9.3f}" for n, v in values.items()]
    for title, bins in (("false", false), ("missed", missed)):
        if any(bins.get("contrast", {}).values()):
            lines.append(f"   {title} by contrast, ml (DWI over normal tissue, ADC in 1e-3 mm²/s)")
            lines.append(f"     {'':10}" + "".join(f"{a:>10}" for a in ADC_NAMES))
            for d in DWI_NAMES:
                cells = [bins["contrast"][f"{d}, {a}"] for a in ADC_NAMES]
                lines.append(f"     {d:10}" + "".join(f"{c:10.3f}" if c else f"{'.':>10}" for c in cells))
    return lines


def as_data(case: CaseErrors) -> dict[str, Any]:
    """A case as data for JSON."""
    return {
        "name": case.name,
        "has_reference": case.has_reference,
        "metrics": case.metrics.to_dict(),
        "lower_two_fifths_false_positive_ml": case.lower_two_fifths_ml,
        "false_positive_ml_by": case.false_bins,
        "missed_ml_by": case.missed_bins,
        "false_components": [_component(c, cause_of_false(c)) for c in case.false_components],
        "missed_lesions": [_component(c, cause_of_missed(c)) for c in case.missed_components],
    }


def _component(component: Component, cause: str) -> dict[str, Any]:
    plain = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(component).items()}
    return {**plain, "could_be": cause}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, draw where asked, and return the exit code: 3 when no case could be used."""
    options = _options(arguments)
    done: list[CaseErrors] = []
    kept = KeptRuntimes()
    try:
        with at_hand(options.model) as name:
            for files in find_cases(options.folders):
                try:
                    result = segment(
                        open_case(files), name, options.device, kept=kept,
                        threshold=options.threshold, min_lesion_ml=options.min_lesion_ml,
                    )  # fmt: skip
                except InputError as error:
                    print(f"Left out: {files.name}: {error.title} {error.cause}")
                    continue
                compared = compare(files, result)
                case = analyse(compared)
                done.append(case)
                print(report(case, options.largest))
                if options.pictures is not None:
                    print(f"   picture: {draw(options.pictures, compared, case)}")
    except StrokeSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not done:
        return InputError.exit_code
    if len(done) > 1:
        print(pooled_report(done))
    if options.json is not None:
        data = {"model": options.model, "cases": [as_data(c) for c in done]}
        options.json.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Where a model errs and what could be behind it.")
    parser.add_argument("model", help="name of a model, or a model folder")
    parser.add_argument("folders", nargs="+", type=Path, help="folders with cases, with or without reference")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, mps")
    parser.add_argument("--threshold", type=float, help="instead of the model's own")
    parser.add_argument("--min-lesion-ml", type=float, help="instead of the model's own")
    parser.add_argument("--largest", type=int, default=5, help="so many components of each case in words (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw overlays there (ignored folder!)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
