"""One job from files to files: what ``strokeseg segment`` does once and the worker does for every request.

Puts `case`, `segmentation`, `evaluation` and `results` together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strokeseg.case import Case
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.results import check_place
from strokeseg.runtime import KeptRuntimes
from strokeseg.segmentation import Segmentation, segment
from strokeseg.volume import Volume

if TYPE_CHECKING:
    from strokeseg.metrics import Metrics

# What the process opened stays open: the worker's second run imports and compiles nothing again.
_KEPT = KeptRuntimes()
INPUTS = ("dwi", "adc", "t1", "flair", "b0", "brain_mask")


@dataclass(frozen=True)
class SegmentOptions:
    """How a case is segmented; the defaults are those of every user interface.

    Attributes:
        model: Name of a model, or ``auto``.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        threshold: Probability from which a voxel is lesion; None: the model's. A model's peak moves along.
        min_lesion_ml: Smaller lesions are dropped; None: the model's.
        strategy: ``auto``, ``whole``, ``windows`` or ``slices``.
        window: Voxels (x, y, z) of a window on the model's grid; None: the model's.
        overlap: Share of a window that neighbours overlap, 0 to 0.9; None: the model's.
        tta: Run the mirrored case, too, and take the mean.
        uncertainty: Also give the entropy of that mean; runs the mirrored case, too.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        runtime: ``auto``, ``openvino`` or ``torch``.
        b_value: s/mm² of the DWI where the file does not say it.
        register: Correct the place of the other scans rigidly where it helps.
        reference: Expert mask to compare with afterwards.
        per_class: Also write one probability map for each class.
        identify: Write the names of the input files into the result.
        synthetic: The case is simulated; pictures and report say so.
    """

    model: str = "auto"
    device: str = "auto"
    threshold: float | None = None
    min_lesion_ml: float | None = None
    strategy: str = "auto"
    window: tuple[int, int, int] | None = None
    overlap: float | None = None
    tta: bool = False
    uncertainty: bool = False
    precision: str = "fp32"
    runtime: str = "auto"
    b_value: float | None = None
    register: bool = False
    reference: str | None = None
    per_class: bool = False
    identify: bool = False
    synthetic: bool = False

    @classmethod
    def checked(cls, options: Mapping[str, Any]) -> SegmentOptions:
        """Options from a request.

        Raises:
            InputError: An option is not known, has the wrong type, or lies outside its range.
        """
        kinds = {f.name: str(f.type) for f in fields(cls)}
        for name, value in options.items():
            if name not in kinds:
                raise _wrong_option(name, "is not known", "known are " + ", ".join(sorted(kinds)))
            if not _fits(value, kinds[name]):
                raise _wrong_option(name, f"is {value!r}"[:200], f"expected {_in_words(kinds[name])}")
        for name, highest in (("threshold", 1.0), ("min_lesion_ml", 1e4), ("b_value", 1e5), ("overlap", 0.9)):
            value = options.get(name)
            if value is not None and not 0.0 <= value <= highest:
                raise _wrong_option(name, f"is {value:g}", f"expected 0 to {highest:g}")
        window = options.get("window")
        return cls(**{**options, "window": None if window is None else tuple(window)})


@dataclass(frozen=True)
class SegmentJob:
    """Which files are segmented, where the result goes, and how.

    Attributes:
        inputs: Role (one of `INPUTS`) to path.
        out: Folder for the result; None: nothing is written.
        options: How.
    """

    inputs: Mapping[str, str]
    out: Path | None = None
    options: SegmentOptions = field(default_factory=SegmentOptions)


@dataclass(frozen=True, eq=False)
class SegmentDone:
    """What came out of a job.

    Attributes:
        result: The segmentation.
        metrics: Figures against the reference, where one was given.
        files: Name of a result to its path; empty where nothing was written.
    """

    result: Segmentation
    metrics: Metrics | None
    files: dict[str, Path]


def run_segment(job: SegmentJob, monitor: Monitor) -> SegmentDone:
    """Read, segment, compare with the reference, and write.

    Raises:
        StrokeSegError: See `strokeseg.segmentation.segment`, `Case.from_files` and `Segmentation.save`.
    """
    options = job.options
    if job.out is not None:
        # Before any work: a run of minutes must not end with "cannot be written there".
        check_place(job.out)
    with monitor.stage("read", "reading the scans"):
        case = Case.from_files(**job.inputs, b_value=options.b_value)
        expected = None if options.reference is None else _reference(options.reference)
    result = segment(
        case,
        options.model,
        options.device,
        threshold=options.threshold,
        min_lesion_ml=options.min_lesion_ml,
        strategy=options.strategy,
        window=options.window,
        overlap=options.overlap,
        tta=options.tta,
        uncertainty=options.uncertainty,
        precision=options.precision,
        runtime=options.runtime,
        register=options.register,
        b_value=options.b_value,
        synthetic=options.synthetic,
        kept=_KEPT,
        monitor=monitor,
    )
    metrics = None
    if expected is not None:
        with monitor.stage("evaluate", "comparing with the reference"):
            metrics = _compared(result, expected)
    files: dict[str, Path] = {}
    if job.out is not None:
        identity = {role: Path(path).name for role, path in job.inputs.items()} if options.identify else None
        files = result.save(job.out, metrics=metrics, per_class=options.per_class, identity=identity)
    return SegmentDone(result, metrics, files)


def _reference(path: str) -> Volume:
    from strokeseg.evaluation import read_reference  # noqa: PLC0415  most jobs have no reference

    return read_reference(path)


def _compared(result: Segmentation, expected: Volume) -> Metrics:
    from strokeseg.evaluation import evaluate  # noqa: PLC0415

    mask = Volume(result.mask, result.affine)
    return evaluate(mask, expected, probability=result.probability, brain=result.brain)


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value has the type that an option's annotation names."""
    if value is None:
        return "None" in kind
    if "bool" in kind:
        return isinstance(value, bool)
    if "tuple" in kind:
        return (
            isinstance(value, list | tuple)
            and len(value) == 3
            and all(type(v) is int and 1 <= v <= 2048 for v in value)
        )
    if "float" in kind:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str)


def _in_words(kind: str) -> str:
    return "three whole numbers from 1 to 2048, or null" if "tuple" in kind else kind.replace("None", "null")


def _wrong_option(name: str, seen: str, expected: str) -> InputError:
    return InputError(f"The option '{name}' cannot be used.", f"It {seen}; {expected}.", "Correct the option.")
