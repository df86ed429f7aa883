"""What a patient's images look like in numbers: the same code for real and synthetic ones.

Every number is NaN where it means nothing: heights and regions in a slab without vertex or skull base, contrast without
lesion. DWI is always the ratio to the patient's own normal tissue, ADC is in 1e-3 mm²/s. Voxels of a lesion are left
out of everything but the lesion's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from _places import FIFTHS, Places
from _scans import Mask, Scan
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.lesions import find_lesions
from strokeseg.metrics.inputs import ratio
from strokeseg.metrics.strata import component_stratum
from strokeseg.symmetry import mirror

Numbers = dict[str, float]
Values = NDArray[np.floating]

# ADC up to which a voxel is tissue, and from which it is fluid (grey matter reaches 1.0, half fluid is about 1.7).
TISSUE_ADC, FLUID_ADC = 1.2, 1.6
BRIGHT = 1.5
_MANY = 30
_DEPTHS_MM = (0.0, 2.5, 5.0, 8.0, 12.0, 20.0)
_LAGS_MM = (2.0, 4.0, 8.0, 16.0)
# Normal deep tissue, in which differences between neighbours are noise and texture rather than cortex beside fluid.
_EVEN_ADC, _EVEN_DEPTH_MM = (0.55, 1.0), 6.0
# A median absolute value of normal numbers to their standard deviation.
_TO_SD = 1.4826
_PROFILE_MM = np.arange(-9.0, 10.0, 2.0)


def measure(scan: Scan) -> Numbers:
    """All numbers of one patient, by name; the part before the colon is the section of the table."""
    parts = {
        "brain": _brain, "tissue": _tissue, "regions": _regions, "edge": _edge, "noise": _noise, "shading": _shading,
        "asymmetry": _asymmetry, "bright voxels": _bright, "lesion": _lesion,
    }  # fmt: skip
    return by_section(_View(scan), parts)


def by_section(view: Any, parts: Mapping[str, Callable[[Any], Numbers]]) -> Numbers:
    """The numbers of all parts of a view; names begin with that of the section."""
    return {f"{title}: {name}": float(value) for title, part in parts.items() for name, value in part(view).items()}


class _View:
    """What several numbers need of a scan."""

    def __init__(self, scan: Scan) -> None:
        self.scan, self.places = scan, Places(scan)
        self.dwi, self.adc = scan.space.channel("dwi_ratio"), scan.space.channel("adc")
        self.lesion = np.zeros_like(scan.brain) if scan.lesion is None else scan.lesion & scan.brain
        self.normal = scan.brain & ~self.lesion
        self.tissue = self.normal & (self.adc > 0) & (self.adc < TISSUE_ADC)
        self.fluid = self.normal & (self.adc > FLUID_ADC)
        self.whole = self.places.is_whole
        self.cerebrum = self.places.core("cerebrum") if self.whole else scan.brain
        self.away_from_cuts = self._away_from_cuts()

    def _away_from_cuts(self) -> Mask:
        """Voxels whose depth is that under the real surface, not under the end of a slab."""
        margin = int(np.ceil(_DEPTHS_MM[-2] / self.scan.grid.spacing_mm[2]))
        slices = np.flatnonzero(self.scan.brain.any(axis=(0, 1)))
        keep = np.zeros(self.scan.grid.shape[2], bool)
        low = slices[0] + (0 if self.places.has_base else margin)
        high = slices[-1] + 1 - (0 if self.places.has_vertex else margin)
        keep[low:high] = True
        return np.broadcast_to(keep, self.scan.grid.shape)


def _middle(values: Values, percent: float = 50.0) -> float:
    return float(np.percentile(values, percent)) if values.size >= _MANY else float("nan")


def _share(part: Mask, whole: Mask) -> float:
    total = int(whole.sum())
    return int((part & whole).sum()) / total if total >= _MANY else float("nan")


def _brain(view: _View) -> Numbers:
    inside = view.places.extent_mm
    nothing = float("nan")
    return {
        "width mm": inside[0],
        "length mm": inside[1],
        "height mm": inside[2] if view.whole else nothing,
        "volume ml": view.scan.brain.sum() * view.scan.grid.voxel_ml if view.whole else nothing,
        "fluid % (ADC > 1.6)": 100 * _share(view.fluid, view.normal),
        "partly fluid % (1.2-1.6)": 100 * _share((view.adc >= TISSUE_ADC) & (view.adc <= FLUID_ADC), view.normal),
        "no ADC % (<= 0.05)": 100 * _share(view.adc <= 0.05, view.normal),
    }


def _tissue(view: _View) -> Numbers:
    chosen = view.tissue & view.cerebrum
    numbers = {f"DWI p{p}": _middle(view.dwi[chosen], p) for p in (5, 25, 75, 95, 99)}
    numbers |= {f"ADC p{p}": _middle(view.adc[chosen], p) for p in (5, 25, 50, 75, 95)}
    fluid = view.fluid & view.cerebrum
    numbers |= {f"fluid DWI p{p}": _middle(view.dwi[fluid], p) for p in (50, 90)}
    return numbers | {"fluid ADC p50": _middle(view.adc[fluid])}


def _regions(view: _View) -> Numbers:
    numbers: Numbers = {}
    for name in ("cerebellum", "brain stem"):
        core = view.tissue & (view.places.core(name) if view.whole else False)
        for title, image in (("DWI", view.dwi), ("ADC", view.adc)):
            cerebrum = _middle(image[view.tissue & view.cerebrum])
            numbers[f"{name}/cerebrum {title}"] = ratio(_middle(image[core]), cerebrum)
            spread = _middle(image[core], 75) - _middle(image[core], 25)
            numbers[f"{name} {title} spread"] = ratio(spread, _middle(image[core]))
    return numbers


def _edge(view: _View) -> Numbers:
    numbers: Numbers = {}
    chosen = view.normal & view.cerebrum & view.away_from_cuts
    for low, high in pairwise(_DEPTHS_MM):
        layer = chosen & (view.places.depth_mm > low) & (view.places.depth_mm <= high)
        numbers[f"DWI {low:g}-{high:g} mm"] = _middle(view.dwi[layer])
        numbers[f"ADC {low:g}-{high:g} mm"] = _middle(view.adc[layer])
    rim = chosen & (view.places.depth_mm <= 5.0)
    return numbers | {f"DWI 0-5 mm p{p}": _middle(view.dwi[rim], p) for p in (5, 95)}


def _noise(view: _View) -> Numbers:
    even = view.tissue & view.cerebrum & (view.places.depth_mm > _EVEN_DEPTH_MM)
    even &= (view.adc > _EVEN_ADC[0]) & (view.adc < _EVEN_ADC[1])
    numbers: Numbers = {}
    for title, image in (("DWI", view.dwi), ("ADC", view.adc)):
        level = _middle(image[even])
        axes = [ratio(_roughness(image, even, axis), level) for axis in range(3)]
        numbers[f"{title} in the slice"] = (axes[0] + axes[1]) / 2
        numbers[f"{title} across slices"] = axes[2]
        numbers[f"{title} across/in"] = ratio(2 * axes[2], axes[0] + axes[1])
        lags = [ratio(_difference(image, even, mm, view.scan.grid.spacing_mm), level) for mm in _LAGS_MM]
        numbers |= {f"{title} differs at {mm:g} mm": d for mm, d in zip(_LAGS_MM, lags, strict=True)}
        numbers[f"{title} steepness 2/8 mm"] = ratio(lags[0], lags[2])
    return numbers


def _roughness(image: NDArray[np.float32], inside: Mask, axis: int) -> float:
    """Standard deviation of white noise that would give the second differences found along an axis."""
    moved, chosen = np.moveaxis(image, axis, 0), np.moveaxis(inside, axis, 0)
    three = chosen[:-2] & chosen[1:-1] & chosen[2:]
    second = (moved[:-2] - 2 * moved[1:-1] + moved[2:])[three]
    return _TO_SD * _middle(np.abs(second)) / float(np.sqrt(6.0))


def _difference(
    image: NDArray[np.float32], inside: Mask, distance_mm: float, spacing_mm: tuple[float, float, float]
) -> float:
    """Standard deviation that the differences at a distance within the slice speak of; its growth is the spectrum."""
    found = []
    for axis in (0, 1):
        step = max(1, round(distance_mm / spacing_mm[axis]))
        moved, chosen = np.moveaxis(image, axis, 0), np.moveaxis(inside, axis, 0)
        both = chosen[:-step] & chosen[step:]
        found.append(np.abs(moved[:-step] - moved[step:])[both])
    return _TO_SD * _middle(np.concatenate(found)) / float(np.sqrt(2.0))


def _shading(view: _View) -> Numbers:
    chosen = view.tissue & view.cerebrum & view.away_from_cuts
    return {f"DWI {name}": value for name, value in shading(view.dwi, chosen, view.places, outer_mm=8.0).items()}


def shading(image: Values, chosen: Mask, places: Places, *, outer_mm: float) -> Numbers:
    """Ratios of the image between opposite parts of the chosen tissue; the outer one lies up to this depth."""

    def over(one: Mask, other: Mask) -> float:
        return ratio(_middle(image[chosen & one]), _middle(image[chosen & other]))

    high = over(places.height > 0.8, (places.height > 0.5) & (places.height < 0.65))
    return {
        "front/back": over(places.frontness > 0.75, places.frontness < 0.25),
        "deep/outer": over(places.depth_mm > 20.0, (places.depth_mm > 2.5) & (places.depth_mm < outer_mm)),
        "top/middle": high if places.is_whole else float("nan"),
        "right/left": over(places.right_mm > 5.0, places.right_mm < -5.0),
    }


def _asymmetry(view: _View) -> Numbers:
    scan = view.scan
    both = mirror(scan.brain, scan.grid.affine, scan.midplane, order=0)
    # Fluid against tissue is anatomy of the folds, and a lesion counts on either side.
    chosen = view.tissue & both
    if view.lesion.any():
        other = mirror(view.lesion, scan.grid.affine, scan.midplane, order=0)
        chosen &= ~ndimage.binary_dilation(view.lesion | other, iterations=2)
    numbers: Numbers = {}
    for title in ("dwi", "adc"):
        values = np.abs(scan.space.channel(f"{title}_mirror_log_ratio")[chosen])
        numbers |= {f"{title.upper()} |log ratio| p{p}": _middle(values, p) for p in (50, 95, 99)}
    return numbers


def _bright(view: _View) -> Numbers:
    places = view.places
    bright = view.normal & (view.dwi > BRIGHT)
    numbers = {"% of the brain (> 1.5)": 100 * _share(bright, view.normal)}
    nothing = float("nan")
    for k, name in enumerate(FIFTHS):
        numbers[f"% of the {name}"] = 100 * _share(bright, view.normal & (places.fifth == k)) if view.whole else nothing
    low, hot = places.height < 0.4, bright & (view.adc < 0.9) & (view.adc > 0)
    for name, part in (("lower two", low & view.normal), ("upper three", ~low & view.normal)):
        numbers[f"% with ADC < 0.9, {name} fifths"] = 100 * _share(hot, part) if view.whole else nothing
    near = bright & low & (places.depth_mm < 6.0)
    numbers["% of the low ones within 6 mm of the edge"] = 100 * _share(near, bright & low) if view.whole else nothing
    numbers["% of the brain (> 2.5)"] = 100 * _share(view.dwi > 2.5, view.normal)
    return numbers


def _lesion(view: _View) -> Numbers:
    names = [
        "ml", "components", "% of components < 0.1 ml", "% of components > 1 ml", "% of the volume in the largest",
        *(f"{t} p{p}" for t in ("DWI", "ADC") for p in (10, 50, 90)), "DWI of components < 0.1 ml",
        "ADC of components < 0.1 ml", "DWI over the tissue around it", "ADC over the tissue around it",
        "edge width mm", "|DWI log mirror ratio| p50",
    ]  # fmt: skip
    if not view.lesion.any():
        return dict.fromkeys(names, float("nan"))
    scan, lesion = view.scan, view.lesion
    _, rows = find_lesions(lesion, scan.grid.affine, adc=view.adc, dwi=view.dwi)
    classes = [component_stratum(r.volume_ml) for r in rows]
    small = [r for r, c in zip(rows, classes, strict=True) if c == "<0.1 ml"]
    total = sum(r.volume_ml for r in rows)
    around = (
        view.tissue & ndimage.binary_dilation(lesion, iterations=5) & ~ndimage.binary_dilation(lesion, iterations=2)
    )
    beside = [float(np.median(v)) if v.size else float("nan") for v in (view.dwi[around], view.adc[around])]
    values = [
        total,
        len(rows),
        100 * len(small) / len(rows),
        100 * classes.count(">1 ml") / len(rows),
        100 * rows[0].volume_ml / total,
        *(float(np.percentile(image[lesion], p)) for image in (view.dwi, view.adc) for p in (10, 50, 90)),
        float(np.median([r.dwi_mean for r in small if r.dwi_mean is not None] or [np.nan])),
        float(np.median([r.adc_mean for r in small if r.adc_mean is not None] or [np.nan])),
        ratio(float(np.median(view.dwi[lesion])), beside[0]),
        ratio(float(np.median(view.adc[lesion])), beside[1]),
        _edge_width_mm(view),
        float(np.median(np.abs(scan.space.channel("dwi_mirror_log_ratio")[lesion]))),
    ]
    return dict(zip(names, values, strict=True))


def _edge_width_mm(view: _View) -> float:
    """Rise of the DWI from outside to inside over its steepest slope, across the border of components above 0.3 ml."""
    labels, rows = find_lesions(view.lesion, view.scan.grid.affine)
    large = sum(r.volume_ml >= 0.3 for r in rows)  # the largest come first
    border = (labels > 0) & (labels <= large)
    if not large:
        return float("nan")
    spacing = view.scan.grid.spacing_mm
    inside, outside = (ndimage.distance_transform_edt(m, sampling=spacing) for m in (border, ~border))
    half = min(spacing) / 2
    distance = np.where(border, inside - half, half - outside)
    usable = view.scan.brain & (view.adc < FLUID_ADC) & (border | ~view.lesion)
    profile = []
    for low, high in pairwise(_PROFILE_MM):
        layer = view.dwi[usable & (distance > low) & (distance <= high)]
        if layer.size >= 10:
            profile.append((low + 1.0, float(np.median(layer))))
    if len(profile) < 4:
        return float("nan")
    place, level = np.array(profile).T
    slope = float((np.diff(level) / np.diff(place)).max())
    return float(level[-1] - level[0]) / slope if slope > 0 else float("nan")
