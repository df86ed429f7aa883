"""Sound files with impossible contents: values, units, exchanged roles, odd shapes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from damage import Cases, Expectation, Trial, either, refused, succeeds
from small_brain import LESION_CENTRE_MM

cases = Cases("values")

NAN = float("nan")


def _filled(trial: Trial, *, role: str, value: float) -> None:
    trial.save(role, np.full(trial.brain.dwi.shape, value, np.float32))


for _role in ("dwi", "adc"):
    for _value in (NAN, float("inf"), 0.0, 7.0, -1.0):
        _says = "not numbers" if not np.isfinite(_value) else "same value"
        cases.add(f"{_role} {_value:g} everywhere", refused(_says), partial(_filled, role=_role, value=_value))


def _sprinkled(trial: Trial, *, role: str, share: float, value: float) -> None:
    """A share of all voxels, outside of the lesion, gets a value."""
    array = getattr(trial.brain, role).copy()
    free = np.flatnonzero(~trial.brain.lesion)
    array.flat[trial.rng.choice(free, size=max(1, int(share * array.size)), replace=False)] = value
    trial.save(role, array)


for _role in ("dwi", "adc"):
    cases.add(
        f"{_role}: NaN in 0.5 % of voxels",
        succeeds("not numbers were set to 0", lesion="close"),
        partial(_sprinkled, role=_role, share=0.005, value=NAN),
    )
    cases.add(
        f"{_role}: NaN in 5 % of voxels", refused("not numbers"), partial(_sprinkled, role=_role, share=0.05, value=NAN)
    )
    for _value in (1e30, 3e38, -1e30):
        cases.add(
            f"{_role}: one voxel of {_value:g}",
            succeeds(),
            partial(_sprinkled, role=_role, share=0, value=_value),
        )


@cases.case("NaN outside of the brain", refused("not numbers"))
def _(trial: Trial) -> None:
    for role in ("dwi", "adc"):
        trial.save(role, np.where(trial.brain.brain, getattr(trial.brain, role), np.nan))


def _changed(trial: Trial, *, role: str, change: Any, dtype: Any = None) -> None:
    trial.save(role, change(getattr(trial.brain, role)), dtype=dtype)


def _add(name: str, expectation: Expectation, role: str, change: Any, dtype: Any = None) -> None:
    cases.add(name, expectation, partial(_changed, role=role, change=change, dtype=dtype))


# --- units and types -----------------------------------------------------------------------------------------------
_add("ADC in 1e-6 mm²/s", succeeds("1e-6 mm²/s"), "adc", lambda a: (a * 1000).astype(np.int16))
_add("ADC in mm²/s", succeeds("taken to be in mm²/s"), "adc", lambda a: a / 1000)
for _factor in (0.1, 10.0, 100.0, 10_000.0, 1e6, 1e-5):
    _add(f"ADC times {_factor:g}", refused("unit"), "adc", partial(np.multiply, np.float32(_factor)))
_add("ADC as grey values 0-255", refused("unit"), "adc", lambda a: (a / a.max() * 255).astype(np.uint8))
_add("ADC negative", refused(), "adc", np.negative)
_add("ADC cut to whole numbers", refused("different values|unit"), "adc", lambda a: a.astype(np.uint8))
_add("ADC cut to 0 and 1", refused("different values|unit"), "adc", lambda a: np.clip(a.astype(np.uint8), 0, 1))
_add("ADC of noise", either(), "adc", lambda a: np.random.default_rng(1).uniform(0, 2, a.shape).astype(np.float32))
_add("DWI as int16", succeeds(lesion="close"), "dwi", lambda a: a.astype(np.int16))
_add("DWI as uint8", succeeds(lesion="close"), "dwi", lambda a: (a / a.max() * 255).astype(np.uint8))
_add("DWI as int64", succeeds(lesion="close"), "dwi", lambda a: a.astype(np.int64), np.int64)
_add("DWI as float64", succeeds(), "dwi", lambda a: a.astype(np.float64), np.float64)
_add("DWI saturated", succeeds("saturated"), "dwi", lambda a: np.clip(a, 0, 500))
_add("DWI saturated below tissue", either(), "dwi", lambda a: np.clip(a, 0, 50))
_add("DWI in two grey levels", refused("different values"), "dwi", lambda a: (a > 300).astype(np.uint8) * 255)
_add("DWI in five grey levels", refused("different values"), "dwi", lambda a: np.rint(a / 150).astype(np.uint8))
_add("DWI normalised to mean 0", either(), "dwi", lambda a: (a - a.mean()) / a.std())
_add("DWI inverted", refused(), "dwi", lambda a: a.max() - a)
_add(
    "DWI empty but for one voxel",
    refused(),
    "dwi",
    lambda a: np.where(np.arange(a.size).reshape(a.shape) == 30_000, a, 0),
)
_add(
    "DWI of noise", either(), "dwi", lambda a: np.abs(np.random.default_rng(2).normal(0, 9, a.shape)).astype(np.float32)
)
_add("DWI without the inner brain", either(), "dwi", lambda a: np.where(np.indices(a.shape)[2] > 30, a, 0))


# --- exchanged roles -----------------------------------------------------------------------------------------------
def _roles(trial: Trial, *, roles: dict[str, str]) -> None:
    for role, source in roles.items():
        array = getattr(trial.brain, source)
        trial.save(role, array.astype(np.uint8) if array.dtype == bool else array)


def _add_roles(name: str, expectation: Expectation, **roles: str) -> None:
    cases.add(name, expectation, partial(_roles, roles=roles))


_add_roles("DWI and ADC exchanged", refused("swapped"), dwi="adc", adc="dwi")
_add_roles("DWI given as ADC, too", refused("same image"), adc="dwi")
_add_roles("ADC given as DWI, too", refused("same image"), dwi="adc")
_add_roles("lesion mask as DWI", refused("mask"), dwi="lesion")
_add_roles("lesion mask as ADC", refused("mask"), adc="lesion")
_add_roles("brain mask as DWI", refused("mask"), dwi="brain")
_add_roles("T1 as ADC", refused(), adc="t1")
# Fluid is bright in both: a b = 0 image in the place of the ADC cannot be told from the two images alone.
_add_roles("b = 0 image as ADC", either(), adc="b0")
_add_roles("T1 as DWI", either(), dwi="t1")
_add_roles("b = 0 image as DWI", Expectation((0, 3), "not_dwi_and_adc|fit each other", "any"), dwi="b0")
_add_roles("T1 twice", refused(), dwi="t1", adc="t1")
_add_roles("DWI as b = 0 image, too", refused("same"), b0="dwi")
_add_roles("all roles", succeeds("unused_input"), b0="b0", t1="t1")


@cases.case("DWI as ADC in another unit", refused("same image"))
def _(trial: Trial) -> None:
    trial.save("adc", trial.brain.dwi * np.float32(0.002))


@cases.case("the same file for both", refused("same image"))
def _(trial: Trial) -> None:
    trial.options["--adc"] = trial.options["--dwi"]


def _only(trial: Trial, *, roles: tuple[str, ...]) -> None:
    trial.forget_scans()
    _roles(trial, roles={role: role for role in roles})


for _given in ((), ("dwi",), ("adc",), ("t1",), ("dwi", "t1"), ("adc", "b0")):
    cases.add(f"only {' and '.join(_given) or 'nothing'} given", refused("No|needs"), partial(_only, roles=_given))
cases.add("DWI and b = 0 without b-value", refused("b-value"), partial(_only, roles=("dwi", "b0")))


@cases.case("only a brain mask given", refused("No scan"))
def _(trial: Trial) -> None:
    trial.forget_scans()
    trial.save("brain_mask", trial.brain.brain.astype(np.uint8))


# --- shapes --------------------------------------------------------------------------------------------------------
def _cropped(trial: Trial, *, box: tuple[slice, slice, slice], roles: tuple[str, ...] = ("dwi", "adc")) -> None:
    affine = trial.brain.affine.copy()
    start = np.array([s.indices(n)[0] for s, n in zip(box, trial.brain.dwi.shape, strict=True)])
    affine[:3, 3] = trial.brain.affine[:3, :3] @ start + trial.brain.affine[:3, 3]
    for role in roles:
        trial.save(role, getattr(trial.brain, role)[box], affine)


def _lesion_voxel(trial: Trial) -> tuple[int, int, int]:
    x, y, z = np.rint(np.linalg.solve(trial.brain.affine, [*LESION_CENTRE_MM, 1.0]))[:3].astype(int)
    return int(x), int(y), int(z)


@cases.case("a single slice", either())
def _(trial: Trial) -> None:
    z = _lesion_voxel(trial)[2]
    _cropped(trial, box=(slice(None), slice(None), slice(z, z + 1)))


@cases.case("two slices", either())
def _(trial: Trial) -> None:
    z = _lesion_voxel(trial)[2]
    _cropped(trial, box=(slice(None), slice(None), slice(z, z + 2)))


@cases.case("a single column of voxels", either())
def _(trial: Trial) -> None:
    x, y, _z = _lesion_voxel(trial)
    _cropped(trial, box=(slice(x, x + 1), slice(y, y + 1), slice(None)))


@cases.case("one voxel", refused())
def _(trial: Trial) -> None:
    x, y, z = _lesion_voxel(trial)
    _cropped(trial, box=(slice(x, x + 1), slice(y, y + 1), slice(z, z + 1)))


@cases.case("two voxels", refused())
def _(trial: Trial) -> None:
    x, y, z = _lesion_voxel(trial)
    _cropped(trial, box=(slice(x, x + 2), slice(y, y + 1), slice(z, z + 1)))


@cases.case("eight voxels", refused())
def _(trial: Trial) -> None:
    x, y, z = _lesion_voxel(trial)
    _cropped(trial, box=(slice(x, x + 2), slice(y, y + 2), slice(z, z + 2)))


cases.add(
    "brain touches all edges",
    succeeds(lesion="close"),
    partial(_cropped, box=(slice(4, 36), slice(5, 43), slice(4, 29))),
)
cases.add("a quarter of the brain", either(), partial(_cropped, box=(slice(0, 20), slice(0, 24), slice(None))))
cases.add(
    "ADC with fewer slices",
    succeeds("covers"),
    partial(_cropped, box=(slice(None), slice(None), slice(9, 30)), roles=("adc",)),
)
cases.add(
    "ADC on a smaller grid",
    succeeds(),
    partial(_cropped, box=(slice(1, 39), slice(2, 46), slice(1, 33)), roles=("adc",)),
)


@cases.case("ADC of every second voxel", succeeds(lesion="close"))
def _(trial: Trial) -> None:
    trial.save("adc", trial.brain.adc[::2, ::2, ::2], trial.brain.affine @ np.diag([2, 2, 2, 1]))


@cases.case("two brains side by side", either())
def _(trial: Trial) -> None:
    for role in ("dwi", "adc"):
        trial.save(role, np.concatenate([getattr(trial.brain, role)] * 2, axis=0))


@cases.case("all lesion", either())
def _(trial: Trial) -> None:
    trial.save(
        "adc", np.where(trial.brain.brain, np.float32(0.42), 0) * (1 + 0.01 * trial.rng.random(trial.brain.adc.shape))
    )


@cases.case("no lesion", succeeds(lesion="any"))
def _(trial: Trial) -> None:
    healthy = trial.brain.brain & ~trial.brain.lesion
    for role in ("dwi", "adc"):
        array = getattr(trial.brain, role)
        trial.save(role, np.where(trial.brain.lesion, np.float32(np.median(array[healthy])), array))
