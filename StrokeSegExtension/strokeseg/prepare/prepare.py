"""`prepare`: the one way from a `Case` to a `Prepared` for a model card."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.case import Case
from strokeseg.checks import Finding, check_inputs
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard
from strokeseg.prepare.brain import BrainMask, find_brain, given_brain
from strokeseg.prepare.channels import ModelSpace
from strokeseg.prepare.diffusion import adc_from_b0, adc_in_engine_unit
from strokeseg.prepare.grid import ModelGrid
from strokeseg.symmetry import Midplane, estimate_midplane
from strokeseg.volume import Volume, resample, resample_mask

# A scan that misses less than this of the brain misses a slice's edge.
_WHOLE_BRAIN = 0.98
TITLES = {"dwi": "DWI", "adc": "ADC", "t1": "T1", "flair": "FLAIR", "b0": "b = 0"}


@dataclass(frozen=True, eq=False)
class Corrected:
    """A case's volumes in the engine's units, each still on its own grid, and what was said about them.

    Attributes:
        volumes: Role to volume; ADC in 1e-3 mm²/s.
        findings: What the checks said.
        assumptions: What was taken for granted, in sentences.
        computed_roles: Roles that were computed rather than read.
        b_value: The DWI's, s/mm², where it is known.
    """

    volumes: dict[str, Volume]
    findings: list[Finding]
    assumptions: list[str]
    computed_roles: tuple[str, ...]
    b_value: float | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case, ready for a model.

    Attributes:
        reference: The volume on whose grid the results will live.
        images: Role to image on the reference's grid, for tables and pictures; ADC in 1e-3 mm²/s.
        brain: The brain on the reference's grid.
        midplane: The brain's own mid-sagittal plane.
        model_grid: The model's grid and the way back.
        channels: float32 (C, x, y, z) on the model grid, in the card's order.
        corrected: The volumes after the checks, and what the checks said.
    """

    reference: Volume
    images: dict[str, NDArray[np.float32]]
    brain: BrainMask
    midplane: Midplane
    model_grid: ModelGrid
    channels: NDArray[np.float32]
    corrected: Corrected


def prepare(
    case: Case,
    card: ModelCard,
    monitor: Monitor,
    *,
    register: bool = False,
    b_value: float | None = None,
    between: Callable[[], None] | None = None,
) -> Prepared:
    """Check, correct, align, find the brain, and make the model's channels.

    Args:
        case: The volumes by role.
        card: The model.
        monitor: Hears warnings and progress.
        register: Correct the place of the other roles by rigid registration where it helps.
        b_value: s/mm² of the DWI where the file does not say it.
        between: Called between the steps; what it raises ends the preparation.

    Raises:
        InputError: A required role is missing, or a check found an error.
    """

    def step(done: int, message: str = "") -> None:
        if between is not None:
            between()
        monitor.progress(done, 5, message)

    corrected = _corrected(case, card, monitor, b_value)
    volumes, reference = corrected.volumes, corrected.volumes[card.reference_role]
    step(1, "aligning")
    if register:
        volumes = _registered(volumes, reference, monitor, corrected.assumptions)
    images = {r: resample(v.array, v.grid, reference.grid) for r, v in volumes.items()}
    step(2, "finding the brain")
    brain = _brain(case, card, reference, images)
    for doubt in brain.findings:
        monitor.warn("brain_mask_doubtful", doubt)
    _tell_coverage(volumes, reference, brain, monitor)
    step(3, "finding the plane between the sides")
    midplane = estimate_midplane(brain.mask, reference.affine, images.get("adc", images[card.reference_role]))
    step(4, "making the model's input")
    preparation, used = card.preparation, {i.role for i in card.inputs}
    grid = ModelGrid.around(
        brain.mask,
        reference.grid,
        spacing_mm=preparation.spacing_mm,
        margin_voxels=preparation.margin_voxels,
        multiple=preparation.multiple,
    )
    space = ModelSpace(
        grid.grid,
        {r: grid.forward(v.array, v.grid) for r, v in volumes.items() if r in used},
        grid.forward(brain.mask) >= 0.5,
        midplane,
    )
    # The filters leave the interpreter's lock, so that two channels are made at a time.
    with ThreadPoolExecutor(2) as pool:
        channels = np.stack(list(pool.map(space.channel, preparation.channels)))
    step(5)
    return Prepared(reference, images, brain, midplane, grid, channels, corrected)


def _corrected(case: Case, card: ModelCard, monitor: Monitor, b_value: float | None) -> Corrected:
    """Check the volumes that the model uses, refuse what cannot be used, and bring them into the engine's units."""
    used = {i.role for i in card.inputs}
    # Tables and pictures show DWI and ADC whatever the model takes; other volumes that it does not take are left alone.
    shown = used | {"dwi", "adc"}
    volumes = {r: _without_holes(v) for r, v in case.volumes.items() if r in shown | {"b0"}}
    dwi = volumes.get("dwi")
    stated_b = _stated_b(dwi, b_value)
    assumptions: list[str] = []
    computed: tuple[str, ...] = ()
    if "adc" in card.required_roles and "adc" not in volumes and dwi is not None and "b0" in volumes:
        _refuse_errors(check_inputs({r: (volumes[r].array, volumes[r].affine) for r in ("dwi", "b0")}))
        volumes["adc"] = adc_from_b0(dwi, volumes["b0"], stated_b)
        computed = ("adc",)
        assumptions += volumes["adc"].notes
    volumes = {r: v for r, v in volumes.items() if r in shown}
    _require(card, case, volumes)
    # The checks see the voxels as they were given. How much of the field of view is covered says little about stripped
    # brains: the brain is looked at later.
    given = {r: case.volumes.get(r, v) for r, v in volumes.items()}
    findings = [
        f
        for f in check_inputs({r: (v.array, v.affine) for r, v in given.items()}, stated_b=stated_b)
        if f.code != "overlap_partial"
    ]
    _refuse_errors(findings)
    if "adc" in volumes:
        volumes["adc"], unit = adc_in_engine_unit(volumes["adc"])
        assumptions.append(unit.finding.message)
    if stated_b is not None:
        said = "as the file says" if b_value is None else "as given"
        assumptions.append(f"The DWI has b = {stated_b:g} s/mm², {said}.")
    _tell(findings, case, used | ({"b0"} if computed else set()), card, monitor)
    return Corrected(volumes, findings, assumptions, computed, stated_b)


def _stated_b(dwi: Volume | None, b_value: float | None) -> float | None:
    """The DWI's b-value, s/mm²: what the user says, else what the file says."""
    if b_value is None:
        return None if dwi is None else dwi.b_value
    if not 0.0 < b_value < 1e5:
        raise InputError(
            "The b-value cannot be used.",
            f"It is given as {b_value:g} s/mm²; a diffusion weighting is a number above 0, usually 1000.",
            "Correct --b-value, or leave it out when the ADC is given.",
        )
    return b_value


def _without_holes(volume: Volume) -> Volume:
    """Voxels that are no numbers count as background; files are read so, volumes made in memory may have them."""
    if np.isfinite(volume.array).all():
        return volume
    return replace(volume, array=np.nan_to_num(volume.array, nan=0.0, posinf=0.0, neginf=0.0))


def _tell(findings: list[Finding], case: Case, used: set[str], card: ModelCard, monitor: Monitor) -> None:
    """Warnings for the reader: what the checks and the reading of the files saw, and what is not used."""
    for finding in findings:
        if finding.severity == "warning":
            monitor.warn(finding.code, f"{finding.message} {finding.next_step}".strip())
    for role, volume in case.volumes.items():
        if role not in used:
            monitor.warn("unused_input", f"{TITLES[role]}: given, but the model '{card.name}' does not use it.")
            continue
        for note in volume.notes:
            monitor.warn(f"{role}_read", f"{TITLES[role]}: {note}")


def _tell_coverage(volumes: dict[str, Volume], reference: Volume, brain: BrainMask, monitor: Monitor) -> None:
    """Warn where a scan that the model uses does not reach over the whole brain."""
    world = reference.grid.to_world(np.argwhere(brain.mask)[::7])
    for role, volume in volumes.items():
        index = volume.grid.to_voxel(world)
        inside = ((index >= -0.5) & (index <= np.asarray(volume.grid.shape) - 0.5)).all(axis=1)
        if inside.mean() < _WHOLE_BRAIN:
            monitor.warn(
                "brain_not_covered",
                f"The {TITLES[role]} covers {inside.mean():.0%} of the brain; elsewhere no lesion can be found.",
            )


def _require(card: ModelCard, case: Case, volumes: dict[str, Volume]) -> None:
    missing = [r for r in card.required_roles if r not in volumes]
    if missing:
        given = ", ".join(TITLES[r] for r in case.volumes) or "nothing"
        raise InputError(
            f"The model '{card.name}' needs " + " and ".join(TITLES[r] for r in card.required_roles) + ".",
            f"{' and '.join(TITLES[r] for r in missing)} is missing; given: {given}.",
            "Add " + " ".join(f"--{r} FILE" for r in missing) + ", or choose a model that works with what you have "
            "('strokeseg models list').",
        )


def _refuse_errors(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.severity == "error":
            of = f" ({TITLES.get(finding.role, finding.role)})" if finding.role else ""
            raise InputError(f"The input was refused{of}.", finding.message, finding.next_step)


def _registered(
    volumes: dict[str, Volume], reference: Volume, monitor: Monitor, assumptions: list[str]
) -> dict[str, Volume]:
    """The volumes with their places corrected where that helps.

    Volumes on the reference's own grid stay; volumes that share another grid come from one series and move together.
    """
    from strokeseg.prepare.align import register_rigid  # noqa: PLC0415  SimpleITK costs 0.2 s and is rarely needed here

    moved: dict[str, Volume] = {}
    movements: dict[str, str] = {}
    for role, volume in volumes.items():
        if volume.grid.matches(reference.grid):
            moved[role] = volume
            continue
        partner = next((r for r in moved if volumes[r].grid.matches(volume.grid)), None)
        if partner is not None:
            moved[role] = replace(volume, affine=moved[partner].affine)
            if partner in movements:
                movements[role] = movements[partner]
                together = f"with the {TITLES[partner]}, whose grid it shares"
                assumptions.append(f"The {TITLES[role]} was moved by {movements[role]} ({together}).")
            continue
        monitor.check()
        done = register_rigid(volume, reference)
        moved[role] = done.moving
        if done.taken:
            movements[role] = f"{done.shift_mm:.1f} mm and {done.turn_degrees:.1f} degrees"
            costs = f"mutual information {-done.cost_before:.3f} before, {-done.cost_after:.3f} after"
            assumptions.append(f"The {TITLES[role]} was moved by {movements[role]} ({costs}).")
        else:
            assumptions.append(f"Registration of the {TITLES[role]} was not taken: {done.why_not}.")
    return moved


def _brain(case: Case, card: ModelCard, reference: Volume, images: dict[str, NDArray[np.float32]]) -> BrainMask:
    if case.brain_mask is not None:
        given = case.brain_mask
        mask = resample_mask(given_brain(given.array, given.affine).mask.astype(np.uint8), given.grid, reference.grid)
        if not mask.any():
            raise InputError(
                "The brain mask does not lie on the scan.",
                f"No voxel of it falls into the {TITLES[card.reference_role]}'s field of view.",
                "Give the brain mask of this patient in the same space, or leave --brain-mask out.",
            )
        return given_brain(mask, reference.affine)
    found = find_brain(
        images[card.reference_role],
        reference.affine,
        role=card.reference_role,
        adc=images.get("adc"),
        b0=images.get("b0"),
    )
    if not found.mask.any():
        raise InputError(
            "No brain was found.",
            " ".join(found.findings) or f"Nothing in the {TITLES[card.reference_role]} looks like a brain.",
            "Check that the right file was given; if it was, give a brain mask with --brain-mask.",
        )
    return replace(found, mask=np.asarray(found.mask, dtype=bool))
