"""How deep under the surface of a soft mask a voxel lies, in mm, outside negative; without a distance transform.

A plane edge blurred by a Gaussian is the normal distribution of the distance: its inverse gives the distance back. A
narrow Gaussian is exact near the surface, a wide one reaches further.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from strokeseg_training.generator._coarse import coarse, fine
from strokeseg_training.generator.fields import blur

REACH_MM = 20.0
_NEAR_SIGMA_MM = 2.5
_NEAR_REACH_MM = 4.0
_FAR_SIGMA_MM = 8.0


def signed_depth_mm(mask: Tensor, spacing_mm: Sequence[float], exact: bool = True) -> Tensor:
    """Depth (N, x, y, z) within about ±`REACH_MM`, further away constant.

    Args:
        mask: (N, x, y, z), 0-1.
        spacing_mm: Of the mask.
        exact: Also follow the surface's fine detail; without it everything below some 8 mm is rounded off.
    """
    shape = (mask.shape[1], mask.shape[2], mask.shape[3])
    far = _edge_inverse(blur(coarse(mask)[:, None], _FAR_SIGMA_MM, [2 * s for s in spacing_mm]), _FAR_SIGMA_MM)
    far = fine(far, shape)[:, 0]
    if not exact:
        return far
    near = _edge_inverse(blur(mask[:, None], _NEAR_SIGMA_MM, spacing_mm), _NEAR_SIGMA_MM)[:, 0]
    near = near.clamp(-_NEAR_REACH_MM, _NEAR_REACH_MM)
    return near + far - far.clamp(-_NEAR_REACH_MM, _NEAR_REACH_MM)


def _edge_inverse(blurred: Tensor, sigma_mm: float) -> Tensor:
    # 2.5 standard deviations: beyond, single precision knows nothing more.
    return (2.0 * blurred.clamp(0.0062, 0.9938) - 1.0).erfinv() * (sigma_mm * 2.0**0.5)
