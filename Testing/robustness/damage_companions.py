"""What comes with the scans: lists of b-values, several volumes, masks; and odd numbers as options."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from damage import Cases, Expectation, Trial, either, refused, succeeds

cases = Cases("companions")

USAGE = Expectation((2,), usage=True)
NAN = float("nan")


# --- several volumes -----------------------------------------------------------------------------------------------
def _volumes(trial: Trial, *, b_values: str | None, selector: str = "", keep_adc: bool = True) -> None:
    path = trial.save("dwi", np.stack([trial.brain.b0, trial.brain.dwi], axis=-1))
    if b_values is not None:
        (trial.folder / "dwi.bval").write_bytes(b_values.encode("utf-8"))
    if not keep_adc:
        trial.options.pop("--adc")
    trial.options["--dwi"] = f"{path}{selector}"


def _add_volumes(
    name: str, expectation: Expectation, b_values: str | None, selector: str = "", keep_adc: bool = True
) -> None:
    cases.add(name, expectation, partial(_volumes, b_values=b_values, selector=selector, keep_adc=keep_adc))


_add_volumes("b-values, sound", succeeds("b = 0 image was taken"), "0 1000\n")
_add_volumes("b-values, ADC computed", succeeds("was computed", lesion="close"), "0 1000\n", keep_adc=False)
_add_volumes("two volumes without b-values", refused("2 volumes"), None)
_add_volumes("two volumes, the second chosen", succeeds(), None, "#1")
_add_volumes("two volumes, the eighth chosen", refused("#7"), None, "#7")
_add_volumes("two volumes, number too long", refused(), None, "#99999999999")
_add_volumes("two volumes, number negative", refused(), None, "#-1")
for _list in (
    "0",
    "0 1000 1000",
    "",
    "0 b1000",
    "0 NaN",
    "0 inf",
    "-5 1000",
    "0 1000\0",
    "\ufeff0 1000",
    "0;1000",
    "1e999 0",
):
    _add_volumes(f"b-values {_list!r}", refused("b-values"), _list)
_add_volumes("b-values both 0", refused("no volume"), "0 0")
_add_volumes("b-values both 1000", either(), "1000 1000")
_add_volumes("b-values exchanged", either(), "1000 0")
_add_volumes("b-values absurd", either(), "0 1e30")


@cases.case("list of b-values is a folder", refused("2 volumes"))
def _(trial: Trial) -> None:
    _volumes(trial, b_values=None)
    (trial.folder / "dwi.bval").mkdir()


@cases.case("ADC of two volumes", refused("2 volumes"))
def _(trial: Trial) -> None:
    trial.save("adc", np.stack([trial.brain.adc] * 2, axis=-1))


@cases.case("70 volumes without b-values", refused("70 volumes"))
def _(trial: Trial) -> None:
    trial.save("dwi", np.stack([trial.brain.dwi] * 70, axis=-1))


# --- reference mask ------------------------------------------------------------------------------------------------
def _mask(trial: Trial, *, role: str, change: Any, affine: Any = None) -> None:
    source = trial.brain.lesion if role == "reference" else trial.brain.brain
    array = np.asarray(change(source.astype(np.float32)))
    trial.save(role, array, trial.brain.affine if affine is None else trial.brain.affine @ affine)


def _add_mask(role: str, name: str, expectation: Expectation, change: Any, affine: Any = None) -> None:
    title = role.replace("_", " ")
    cases.add(f"{title}, {name}", expectation, partial(_mask, role=role, change=change, affine=affine))


def _aside(mm: float) -> Any:
    affine = np.eye(4)
    affine[0, 3] = mm / 4.0
    return affine


# Voxels of half the width: the first centre moves by a quarter of the old width.
_HALF = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])


def _doubled(a: Any) -> Any:
    return a.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def _single(a: Any) -> Any:
    one = np.zeros_like(a)
    one[tuple(np.argwhere(a > 0)[len(np.argwhere(a > 0)) // 2])] = 1
    return one


for _role in ("reference", "brain_mask"):
    _add_mask(_role, "sound", succeeds(), lambda a: a)
    _add_mask(
        _role, "with fractions", refused("fractions|broken"), lambda a: a * np.float32(0.7) + np.float32(0.1) * a**2
    )
    _add_mask(_role, "negative", refused("negative|-1"), np.negative)
    _add_mask(_role, "NaN in it", refused("not numbers|NaN"), lambda a: np.where(np.indices(a.shape)[0] > 30, NAN, a))
    _add_mask(_role, "everywhere", refused(), np.ones_like)
    _add_mask(_role, "of two volumes", refused("2 volumes"), lambda a: np.stack([a, a], axis=-1))
    _add_mask(_role, "500 mm aside", refused(), lambda a: a, _aside(500))
    _add_mask(_role, "a million kilometres away", refused(), lambda a: a, _aside(1e12))
    _add_mask(_role, "of wrong shape", either(), lambda a: a[:30, :40, :30])
    _add_mask(_role, "on a finer grid", succeeds(), _doubled, _HALF)
_add_mask("reference", "empty", succeeds(), np.zeros_like)
_add_mask("reference", "with labels 1 to 3", succeeds(), lambda a: a * (1 + np.indices(a.shape)[0] % 3))
_add_mask("reference", "of values 0 and 255", succeeds(), lambda a: a * 255)
_add_mask("brain_mask", "empty", refused("empty"), np.zeros_like)
_add_mask("brain_mask", "of one voxel", either(), _single)
_add_mask("brain_mask", "in the air only", either(), lambda a: np.where(np.indices(a.shape).sum(0) < 6, 1, 0))
_add_mask("brain_mask", "of values 0 and 255", succeeds(), lambda a: a * 255)


def _other_file(trial: Trial, *, option: str, content: bytes | None) -> None:
    path = trial.use(option, trial.folder / "mask.nii.gz")
    if content is not None:
        path.write_bytes(content)


for _option in ("--reference", "--brain-mask", "--t1", "--flair", "--b0"):
    cases.add(f"{_option} missing", refused("no such file"), partial(_other_file, option=_option, content=None))
    cases.add(f"{_option} is text", refused("no NIfTI"), partial(_other_file, option=_option, content=b"no image" * 99))


@cases.case("the DWI as reference", refused("mask"))
def _(trial: Trial) -> None:
    trial.options["--reference"] = trial.options["--dwi"]


@cases.case("the ADC as brain mask", refused("mask"))
def _(trial: Trial) -> None:
    trial.options["--brain-mask"] = trial.options["--adc"]


# --- options -------------------------------------------------------------------------------------------------------
def _typed(trial: Trial, *, option: str, value: str) -> None:
    trial.options[option] = value


def _add_option(option: str, value: str, expectation: Expectation) -> None:
    cases.add(f"{option} {value}", expectation, partial(_typed, option=option, value=value))


_REFUSED_NUMBER = Expectation((2, 3))
for _option_name in ("--threshold", "--min-lesion-ml", "--b-value"):
    for _text in ("nan", "inf", "-inf"):
        _add_option(_option_name, _text, _REFUSED_NUMBER)
    _add_option(_option_name, "-1", USAGE)
    _add_option(_option_name, "much", USAGE)
_add_option("--min-lesion-ml", "1e30", refused("min_lesion_ml"))
_add_option("--threshold", "0", succeeds(lesion="any"))
_add_option("--threshold", "1", succeeds(lesion="any"))
_add_option("--b-value", "0", either())
_add_option("--b-value", "1e30", either())
_add_option("--model", "no-such-model", Expectation((4,)))
_add_option("--model", "../../adc-threshold", Expectation((4,)))
_add_option("--device", "toaster", Expectation((5,)))
_add_option("--strategy", "guess", Expectation((4,)))
_add_option("--format", "xml", USAGE)
