"""What a patient's T1-weighted image looks like in numbers: the same code for real and synthetic ones.

Brightness is always relative to the patient's own white matter. Tissue classes come from the image's histogram alone
(two thresholds after Otsu), because a real scan has no tissue maps. A lesion is left out of everything but its own
numbers; a number without meaning is NaN.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from _looks import Numbers, Values, _difference, _middle, _roughness, _share, by_section, shading
from _places import FIFTHS, Places
from _scans import Mask, Scan
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from strokeseg.lesions import find_lesions
from strokeseg.metrics.inputs import ratio
from strokeseg.symmetry import mirror

_DEPTHS_MM = (0.0, 2.5, 5.0, 8.0, 12.0, 20.0)
_LAGS_MM = (2.0, 4.0, 8.0, 16.0)
_EVEN_DEPTH_MM = 8.0
# Fluid further than this below the brain's surface is ventricle: no sulcus of a healthy brain is as deep.
_CENTRAL_MM = 26.0


def measure_t1(scan: Scan) -> Numbers:
    """All numbers of one patient with a T1-weighted image, by name; the part before the colon is the section."""
    parts = {
        "brain": _brain, "classes": _classes, "regions": _regions, "edge": _edge, "noise": _noise, "shading": _shading,
        "asymmetry": _asymmetry, "lesion": _lesion,
    }  # fmt: skip
    return by_section(_View(scan), parts)


class _View:
    """What several numbers need of a scan."""

    def __init__(self, scan: Scan) -> None:
        self.scan, self.places = scan, Places(scan)
        self.lesion = np.zeros_like(scan.brain) if scan.lesion is None else scan.lesion & scan.brain
        self.normal = scan.brain & ~ndimage.binary_dilation(self.lesion)
        raw = scan.images["t1"]
        # The few brightest voxels are vessels and remains of the skull; they must not decide where classes part.
        held = np.clip(raw, *np.percentile(raw[self.normal], (0.5, 99.0)))
        low, high = threshold_multiotsu(held[self.normal], classes=3, nbins=256)
        level = float(np.median(raw[self.normal & (raw > high)]))
        self.t1 = (raw / level).astype(np.float32)
        self.fluid = self.normal & (raw <= low)
        self.grey = self.normal & (raw > low) & (raw <= high)
        self.white = self.normal & (raw > high)
        self.cerebrum = self.places.core("cerebrum") if self.places.is_whole else scan.brain

    @cached_property
    def mirrored(self) -> tuple[Values, Mask]:
        """The image of the other side, smoothed over 3 voxels, and where both sides are brain."""
        grid, plane = self.scan.grid, self.scan.midplane
        mean = ndimage.uniform_filter(self.t1 * self.scan.brain, 3)
        both = mirror(self.scan.brain, grid.affine, plane, order=0) & self.scan.brain
        return np.log(np.maximum(mean, 0.05) / np.maximum(mirror(mean, grid.affine, plane), 0.05)), both


def _brain(view: _View) -> Numbers:
    inside, nothing = view.places.extent_mm, float("nan")
    deep = view.fluid & (view.places.depth_mm > _CENTRAL_MM)
    voxel_ml = view.scan.grid.voxel_ml
    return {
        "width mm": inside[0],
        "length mm": inside[1],
        "height mm": inside[2] if view.places.is_whole else nothing,
        "volume ml": view.scan.brain.sum() * voxel_ml if view.places.is_whole else nothing,
        "fluid %": 100 * _share(view.fluid, view.normal),
        "white over grey": ratio(float(view.white.sum()), float(view.grey.sum())),
        "central fluid ml": deep.sum() * voxel_ml if view.places.is_whole else nothing,
        **{
            f"fluid % of the {name}": 100 * _share(view.fluid, view.normal & (view.places.fifth == k))
            if view.places.is_whole
            else nothing
            for k, name in enumerate(FIFTHS)
        },
    }


def _classes(view: _View) -> Numbers:
    numbers: Numbers = {"grey/white": _middle(view.t1[view.grey & view.cerebrum])}
    numbers |= {f"fluid/white p{p}": _middle(view.t1[view.fluid], p) for p in (5, 50)}
    deep = view.fluid & (view.places.depth_mm > _CENTRAL_MM)
    numbers["central fluid/white p25"] = _middle(view.t1[deep], 25)
    for name, part in (("grey", view.grey), ("white", view.white)):
        values = view.t1[part & view.cerebrum]
        numbers |= {f"{name} p{p} over p50": ratio(_middle(values, p), _middle(values)) for p in (5, 95)}
    numbers |= {f"brain p{p}": _middle(view.t1[view.normal], p) for p in (10, 25, 50, 75, 90, 99)}
    return numbers


def _regions(view: _View) -> Numbers:
    numbers: Numbers = {}
    for name in ("cerebellum", "brain stem"):
        core = view.normal & ~view.fluid & (view.places.core(name) if view.places.is_whole else False)
        numbers[f"{name}/white"] = _middle(view.t1[core])
        numbers[f"{name} spread"] = ratio(
            _middle(view.t1[core], 75) - _middle(view.t1[core], 25), _middle(view.t1[core])
        )
    return numbers


def _edge(view: _View) -> Numbers:
    numbers: Numbers = {}
    for low, high in pairwise(_DEPTHS_MM):
        layer = view.normal & view.cerebrum & (view.places.depth_mm > low) & (view.places.depth_mm <= high)
        numbers[f"T1 {low:g}-{high:g} mm"] = _middle(view.t1[layer])
        numbers[f"fluid % {low:g}-{high:g} mm"] = 100 * _share(view.fluid, layer)
    rim = view.normal & view.cerebrum & (view.places.depth_mm <= 5.0)
    return numbers | {f"T1 0-5 mm p{p}": _middle(view.t1[rim], p) for p in (5, 95)}


def _noise(view: _View) -> Numbers:
    # Away from grey matter: what differs there between neighbours is noise, texture and vessels.
    even = ndimage.binary_erosion(view.white & view.cerebrum) & (view.places.depth_mm > _EVEN_DEPTH_MM)
    axes = [_roughness(view.t1, even, axis) for axis in range(3)]
    lags = [_difference(view.t1, even, mm, view.scan.grid.spacing_mm) for mm in _LAGS_MM]
    grey = _middle(view.t1[view.grey & view.cerebrum])
    return {
        "in the slice": (axes[0] + axes[1]) / 2,
        "across slices": axes[2],
        **{f"differs at {mm:g} mm": d for mm, d in zip(_LAGS_MM, lags, strict=True)},
        "contrast to noise": ratio(1.0 - grey, lags[0]),
        "sharpness": _middle(ndimage.gaussian_gradient_magnitude(view.t1, 0.5)[view.normal & view.cerebrum], 90),
    }


def _shading(view: _View) -> Numbers:
    return shading(view.t1, view.white & view.cerebrum, view.places, outer_mm=10.0)


def _asymmetry(view: _View) -> Numbers:
    image, both = view.mirrored
    chosen = both & view.normal
    numbers = {f"|log ratio| p{p}": _middle(np.abs(image[chosen]), p) for p in (50, 95, 99)}
    deep = view.fluid & (view.places.depth_mm > _CENTRAL_MM)
    right = int((deep & (view.places.right_mm > 0)).sum())
    return numbers | {"central fluid, larger side %": 100 * max(right, deep.sum() - right) / max(int(deep.sum()), 1)}


def _lesion(view: _View) -> Numbers:
    names = (
        "ml", "components", "T1/white p10", "T1/white p50", "T1/white p90", "fluid %", "over the tissue around it",
        "|log mirror ratio| p50",
    )  # fmt: skip
    lesion = view.lesion
    if not lesion.any():
        return dict.fromkeys(names, float("nan"))
    _, rows = find_lesions(lesion, view.scan.grid.affine)
    ring = ndimage.binary_dilation(lesion, iterations=5) & ~ndimage.binary_dilation(lesion, iterations=2)
    around = _middle(view.t1[ring & (view.grey | view.white)])
    darkest = float(view.t1[view.fluid].max()) if view.fluid.any() else float("nan")
    values = (
        sum(r.volume_ml for r in rows),
        len(rows),
        *(float(np.percentile(view.t1[lesion], p)) for p in (10, 50, 90)),
        100 * float((view.t1[lesion] <= darkest).mean()),
        ratio(float(np.median(view.t1[lesion])), around),
        float(np.median(np.abs(view.mirrored[0][lesion]))),
    )
    return dict(zip(names, values, strict=True))
