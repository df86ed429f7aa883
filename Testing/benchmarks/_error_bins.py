"""Errors of one case sorted into bins, and found and false components described one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from _causes import Component
from _places import DEPTH_NAMES, FIFTHS, REGIONS, SIDES, Places
from _scans import Mask, Scan
from numpy.typing import NDArray

from strokeseg.lesions import find_lesions
from strokeseg.metrics.strata import COMPONENT_STRATA, component_stratum

DWI_EDGES, ADC_EDGES = (1.0, 1.2, 1.5, 2.0, 3.0), (0.3, 0.62, 0.8, 1.0, 1.2)
DWI_NAMES = ("DWI <1.0", "1.0-1.2", "1.2-1.5", "1.5-2", "2-3", ">3")
ADC_NAMES = ("ADC <0.3", "0.3-0.62", "0.62-0.8", "0.8-1.0", "1.0-1.2", ">1.2")
TISSUES = ("background", "grey", "white", "fluid")
TISSUES_BY_ADC = ("tissue (ADC <1.2)", "partly fluid (1.2-1.6)", "fluid (>1.6)")
RIM = "rim of a found lesion"
OUTSIDE = "outside the brain mask"
Bins = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Compared:
    """A prediction and its reference on one grid.

    Args:
        scan: The patient; its `lesion` is the reference, None where there is none (everything found is false).
        found: The prediction (x, y, z).
        tissue: uint8 labels of the model, index into `TISSUES`; None where it gives none.
    """

    scan: Scan
    found: Mask
    tissue: NDArray[np.uint8] | None = None

    @property
    def reference(self) -> Mask:
        """The reference; empty without one."""
        return np.zeros_like(self.found) if self.scan.lesion is None else self.scan.lesion

    @property
    def false(self) -> Mask:
        """Predicted voxels outside the reference."""
        return self.found & ~self.reference

    @property
    def missed(self) -> Mask:
        """Reference voxels that were not predicted."""
        return self.reference & ~self.found


class Describer:
    """Bins and components of one compared case."""

    def __init__(self, compared: Compared) -> None:
        self.compared, self.scan = compared, compared.scan
        self.places = Places(self.scan)
        self._has_contrast = {"dwi", "adc"} <= set(self.scan.images)
        self._ml = self.scan.grid.voxel_ml

    def false_bins(self) -> Bins:
        """Millilitres of false positives by bin."""
        return self._bins(self.compared.false, self.compared.found, self.compared.reference)

    def missed_bins(self) -> Bins:
        """Millilitres of missed lesion by bin."""
        return self._bins(self.compared.missed, self.compared.reference, self.compared.found)

    def lower_two_fifths_ml(self) -> float | None:
        """False positives in the lower two fifths of the brain's height; None in a slab."""
        if not self.places.is_whole:
            return None
        return int((self.compared.false & self.scan.brain & (self.places.fifth < 2)).sum()) * self._ml

    def false_components(self) -> list[Component]:
        """Predicted components that touch no reference voxel, largest first."""
        return self._components(self.compared.found, self.compared.reference)

    def missed_components(self) -> list[Component]:
        """Reference components that no predicted voxel touches, largest first."""
        return self._components(self.compared.reference, self.compared.found)

    def _bins(self, errors: Mask, own: Mask, other: Mask) -> Bins:
        places, inside = self.places, errors & self.scan.brain
        bins = {
            "distance to the edge": {
                **self._count(places.depth_class, inside, DEPTH_NAMES),
                OUTSIDE: int((errors & ~self.scan.brain).sum()) * self._ml,
            },
            "side": self._count(places.side, inside, SIDES),
            "size of the component": self._by_size(errors, own, other),
        }
        if places.is_whole:
            bins |= {
                "height": self._count(places.fifth, inside, FIFTHS),
                "region": self._count(places.region, inside, REGIONS),
            }
        if self.compared.tissue is not None:
            bins["tissue"] = self._count(self.compared.tissue, inside, TISSUES)
        elif self._has_contrast:
            bins["tissue"] = self._count(np.searchsorted((1.2, 1.6), self._adc, side="right"), inside, TISSUES_BY_ADC)
        if self._has_contrast:
            dwi = np.searchsorted(DWI_EDGES, self._dwi, side="right")
            adc = np.searchsorted(ADC_EDGES, self._adc, side="right")
            names = [f"{d}, {a}" for d in DWI_NAMES for a in ADC_NAMES]
            bins["contrast"] = self._count(dwi * len(ADC_NAMES) + adc, inside, names)
        return bins

    def _count(
        self, classes: NDArray[np.integer], inside: Mask, names: tuple[str, ...] | list[str]
    ) -> dict[str, float]:
        voxels = np.bincount(classes[inside].astype(np.int64), minlength=len(names))
        return {name: int(n) * self._ml for name, n in zip(names, voxels, strict=True)}

    def _by_size(self, errors: Mask, own: Mask, other: Mask) -> dict[str, float]:
        """Errors in components that the other mask touches (a rim), and in untouched ones by their size."""
        labels, rows = find_lesions(own, self.scan.grid.affine)
        touched = set(np.unique(labels[other & own]).tolist())
        voxels = np.bincount(labels[errors], minlength=len(rows) + 1)
        sums = dict.fromkeys((RIM, *COMPONENT_STRATA), 0.0)
        for row in rows:
            name = RIM if row.label in touched else component_stratum(row.volume_ml)
            sums[name] += int(voxels[row.label]) * self._ml
        return sums

    def _components(self, own: Mask, other: Mask) -> list[Component]:
        labels, rows = find_lesions(own, self.scan.grid.affine, midplane=self.scan.midplane.plane)
        touched = set(np.unique(labels[other & own]).tolist())
        return [
            self._describe(labels == row.label, row.volume_ml, row.side or "-")
            for row in rows
            if row.label not in touched
        ]

    def _describe(self, part: Mask, ml: float, side: str) -> Component:
        places, inside = self.places, part & self.scan.brain
        nothing = float("nan")
        chosen = inside if inside.any() else part
        contrast = self._has_contrast and bool(inside.any())

        def mean(image: NDArray[np.float32]) -> float:
            return float(image[chosen].mean())

        half_width = float(np.abs(places.right_mm).max())
        return Component(
            ml=ml,
            height=mean(places.height) if places.is_whole else nothing,
            frontness=mean(places.frontness),
            depth_mm=mean(places.depth_mm),
            off_middle=float(np.abs(places.right_mm[chosen]).mean()) / half_width,
            region=REGIONS[int(np.bincount(places.region[chosen]).argmax())] if places.is_whole else "-",
            side=side,
            dwi=mean(self._dwi) if contrast else nothing,
            adc=mean(self._adc) if contrast else nothing,
            mirror=mean(self.scan.space.channel("dwi_mirror_log_ratio")) if contrast else nothing,
            outside=1.0 - int(inside.sum()) / int(part.sum()),
            slice=round(float(np.nonzero(part)[2].mean())),
        )

    @property
    def _dwi(self) -> NDArray[np.float32]:
        return self.scan.space.channel("dwi_ratio")

    @property
    def _adc(self) -> NDArray[np.float32]:
        return self.scan.space.channel("adc")
