"""What surrounds the brain in an image that shows the whole head, and the sensitivity of the receiving coils.

Nothing of it is seen by a network but what a wrong brain mask lets in, blur draws across the edge, or fools the search
for the brain: shape and brightness matter, detail does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strokeseg_training.generator._coarse import fine
from strokeseg_training.generator._depth import signed_depth_mm
from strokeseg_training.generator._draws import Triple
from strokeseg_training.generator._spots import bumps
from strokeseg_training.generator.fields import centred_mm, per_patient, smooth_field

EYES_MM: tuple[Triple, Triple] = ((32.0, 60.0, -36.0), (-32.0, 60.0, -36.0))
_EYE_RADIUS_MM = 9.0
_FLUID_D = 2.8


@dataclass(frozen=True)
class Surroundings:
    """Skull, scalp, muscle, mucosa and eyes.

    Args:
        level: Signal without diffusion weighting of soft tissue outside the skull, relative to white matter.
        skull_mm: Thickness of the dark layer over the vault; at the base it is thin and broken.
        scalp_mm: Thickness of what follows.
        diffusivity: Of soft tissue outside, 1e-3 mm²/s.
        patchiness: Standard deviation of the logarithm of its brightness.
        t1_level: Its brightness in T1-weighted images, relative to white matter.
        eyes: Brightness of the eyes without diffusion weighting, relative to fluid.
        seed: Field of the patches.
    """

    level: float
    skull_mm: float
    scalp_mm: float
    diffusivity: float
    patchiness: float
    t1_level: float
    eyes: float
    seed: int


@dataclass(frozen=True)
class Coil:
    """Receive sensitivity: an order-3 field, brighter near the coils.

    Args:
        towards: Unit vector to the brighter side, (right, front, top).
        tilt: Logarithmic rise over 80 mm towards that side.
        radial: Logarithmic rise from the middle to 80 mm.
        waves: Standard deviation of the remaining smooth field's logarithm.
        seed: Of that field.
    """

    towards: Triple
    tilt: float
    radial: float
    waves: float
    seed: int


def sensitivity(
    coils: Sequence[Coil], shape: tuple[int, int, int], spacing_mm: Sequence[float], device: torch.device
) -> Tensor:
    """Receive sensitivity (N, x, y, z), around 1."""
    half = [(n + 1) // 2 for n in shape]
    double = [2.0 * s for s in spacing_mm]
    place = centred_mm(half, double, device) / 80.0
    waves = smooth_field([c.seed for c in coils], [90.0] * len(coils), half, double, device)[:, 0]
    towards = torch.tensor([c.towards for c in coils], dtype=torch.float32, device=device)
    tilt = torch.einsum("ni,ixyz->nxyz", towards, place)
    log = tilt * per_patient([c.tilt for c in coils], device) + waves * per_patient([c.waves for c in coils], device)
    log = log + place.square().sum(0) * per_patient([c.radial for c in coils], device)
    return fine(log.exp()[:, None], shape)[:, 0]


def outside_brain(
    surroundings: Sequence[Surroundings], brain: Tensor, mni_mm: Tensor, spacing_mm: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft tissue and fluid outside the brain, on a coarse grid.

    Args:
        surroundings: One a patient.
        brain: (N, x, y, z), 0-1.
        mni_mm: (N, 3, x, y, z), template coordinates.
        spacing_mm: Of these.

    Returns:
        Share of soft tissue, its brightness relative to its mean, and share of fluid (the eyes), each (N, x, y, z).
    """
    device = brain.device
    depth = signed_depth_mm(brain, spacing_mm, exact=False)
    # The base of the skull: below a plane that falls from the orbits to the foramen magnum.
    base = torch.sigmoid((-(mni_mm[:, 2] + 28.0 - 0.2 * mni_mm[:, 1])) / 6.0)
    skull = per_patient([s.skull_mm for s in surroundings], device) * (1.0 - 0.8 * base)
    reach = skull + per_patient([s.scalp_mm for s in surroundings], device) + 30.0 * base
    soft = torch.sigmoid(-(depth + skull) / 1.0) * torch.sigmoid((depth + reach) / 1.5)
    width = [14.0] * len(surroundings)
    patches = smooth_field([s.seed for s in surroundings], width, brain.shape[1:], spacing_mm, device)[:, 0]
    # Below the base half of what lies there is bone and air.
    soft = soft * (1.0 - base * torch.sigmoid(-3.0 * patches))
    bright = (patches * per_patient([s.patchiness for s in surroundings], device)).exp()
    count = len(surroundings)
    eyes = bumps(mni_mm, [EYES_MM] * count, [[(_EYE_RADIUS_MM,) * 3] * 2] * count, [[[1.0]] * 2] * count)[:, 0]
    fluid = torch.sigmoid((eyes - 0.5) * 10.0) * torch.sigmoid(-(depth + 2.0))
    return soft * (1.0 - fluid), bright, fluid


def fluid_weighting(b_values: Sequence[float], device: torch.device) -> Tensor:
    """exp(-b D) of the eyes' fluid, (N, 1, 1, 1)."""
    return (per_patient(b_values, device) * -_FLUID_D).exp()
