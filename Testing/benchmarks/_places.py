"""Where a voxel lies in the brain, by geometry alone: height, depth, side and region.

The frame is the brain's own: right is across its mid-sagittal plane, up is the grid's third axis made perpendicular to
it (the slices are placed by the radiographer along the anatomy, the patient's tilt in the scanner says nothing). The
brain's width and length scale a frame of the MNI152 template (ICBM 2009a); heights hang from the vertex, because masks
end at different depths of the medulla.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from _scans import Mask, Scan
from numpy.typing import NDArray

Float = NDArray[np.float32]
Array = NDArray[np.float64]

# Of the template's brain mask, mm: the 0.5th and 99.5th percentile of right, front and top.
_HALF_WIDTH_MM, _BACK_MM, _FRONT_MM, _TOP_MM = 66.0, -100.0, 66.0, 74.0
_PERCENTILES = (0.5, 99.5)
# A brain whose outermost section at one end is larger than this share of its largest one was cut off there.
_CUT_OFF_SHARE = 0.25

# Ellipsoids in template mm: centre and half axes; the right one is mirrored to the left.
_REGIONS = {
    "cerebellum": ((26.0, -64.0, -38.0), (30.0, 34.0, 25.0)),
    "brain stem": ((0.0, -27.0, -38.0), (15.0, 17.0, 32.0)),
}
# Their middles, small enough to be inside them in every head: what is measured there is that tissue.
_CORES = {
    "cerebellum": ((26.0, -65.0, -38.0), (19.0, 20.0, 13.0)),
    "brain stem": ((0.0, -27.0, -32.0), (9.0, 8.0, 16.0)),
}
REGIONS = ("cerebrum", "cerebellum", "brain stem")
FIFTHS = ("lowest fifth", "second fifth", "third fifth", "fourth fifth", "highest fifth")
DEPTHS_MM = (3.0, 6.0, 10.0, 20.0)
DEPTH_NAMES = ("<3 mm", "3-6 mm", "6-10 mm", "10-20 mm", ">20 mm")
MIDLINE_MM = 5.0
SIDES = ("left", "right", "midline")


@dataclass(frozen=True, eq=False)
class Places:
    """The places of all voxels of a scan."""

    scan: Scan

    @cached_property
    def _frame(self) -> tuple[Array, Array]:
        """Coordinates (3, voxels of the brain), mm in the brain's frame, and their percentiles (2, 3)."""
        grid = self.scan.grid
        right = np.asarray(self.scan.midplane.normal_ras)
        up = grid.directions[:, 2] - right * (grid.directions[:, 2] @ right)
        up /= np.linalg.norm(up)
        axes = np.stack([right, np.cross(up, right), up])
        inside = axes @ grid.to_world(np.argwhere(self.scan.brain)).T
        inside[0] -= self.scan.midplane.offset_mm
        return inside, np.percentile(inside, _PERCENTILES, axis=1)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Width, length and height of the brain, between the 0.5th and 99.5th percentile of its voxels."""
        low, high = self._frame[1]
        width, length, height = (float(v) for v in high - low)
        return width, length, height

    def _spread(self, values: Array) -> Float:
        """One number for each brain voxel, as an image; 0 outside."""
        image = np.zeros(self.scan.grid.shape, np.float32)
        image[self.scan.brain] = values
        return image

    @cached_property
    def right_mm(self) -> Float:
        """Signed distance from the mid-sagittal plane, to the patient's right positive."""
        return self._spread(self._frame[0][0])

    @cached_property
    def height(self) -> Float:
        """0 at the lowest brain voxel, 1 at the highest."""
        up = self._frame[0][2]
        return self._spread((up - up.min()) / max(float(np.ptp(up)), 1e-6))

    @cached_property
    def frontness(self) -> Float:
        """0 at the hindmost brain voxel, 1 at the foremost."""
        front = self._frame[0][1]
        return self._spread((front - front.min()) / max(float(np.ptp(front)), 1e-6))

    @cached_property
    def depth_mm(self) -> Float:
        """Distance to the nearest voxel outside the brain mask."""
        return self.scan.space.channel("edge_distance_mm")

    @cached_property
    def has_vertex(self) -> bool:
        """Whether the top of the brain is within the scan."""
        return not self._cut_off(1)

    @cached_property
    def has_base(self) -> bool:
        """Whether the skull base is within the scan."""
        return not self._cut_off(0)

    @property
    def is_whole(self) -> bool:
        """Whether both are: heights and regions mean something only there."""
        return self.has_vertex and self.has_base

    def _cut_off(self, end: int) -> bool:
        area = self.scan.brain.sum(axis=(0, 1))
        occupied = area[area > 0]
        return bool(occupied[-end] > _CUT_OFF_SHARE * occupied.max())

    @cached_property
    def fifth(self) -> NDArray[np.int8]:
        """Index into `FIFTHS`."""
        return np.clip(self.height * 5, 0, 4).astype(np.int8)

    @cached_property
    def depth_class(self) -> NDArray[np.int8]:
        """Index into `DEPTH_NAMES`."""
        return np.searchsorted(DEPTHS_MM, self.depth_mm, side="right").astype(np.int8)

    @cached_property
    def side(self) -> NDArray[np.int8]:
        """Index into `SIDES`; within `MIDLINE_MM` of the plane is midline."""
        return np.where(np.abs(self.right_mm) <= MIDLINE_MM, 2, self.right_mm > 0).astype(np.int8)

    @cached_property
    def region(self) -> NDArray[np.int8]:
        """Index into `REGIONS`: which part a voxel belongs to; the borders are those of ellipsoids."""
        region = np.zeros(self.scan.grid.shape, np.int8)
        region[self._within("cerebellum", _REGIONS)] = 1
        region[self._within("brain stem", _REGIONS)] = 2
        return region

    def core(self, name: str) -> Mask:
        """The middle of a region of `REGIONS`; of the cerebrum, everything well above the hind-brain."""
        if name == "cerebrum":
            return self.scan.brain & (self._spread(self._template_mm[2]) > -10.0)
        return self._within(name, _CORES)

    def _within(
        self, name: str, ellipsoids: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]
    ) -> Mask:
        (right, front, top), axes = ellipsoids[name]
        x, y, z = self._template_mm
        squares = ((np.abs(x) - right) / axes[0]) ** 2 + ((y - front) / axes[1]) ** 2 + ((z - top) / axes[2]) ** 2
        return self._spread(squares <= 1.0) > 0

    @cached_property
    def _template_mm(self) -> Array:
        """(3, voxels of the brain): about where each lies in the template, mm."""
        inside, (low, high) = self._frame
        across = (high[0] - low[0]) / (2 * _HALF_WIDTH_MM)
        along = (high[1] - low[1]) / (_FRONT_MM - _BACK_MM)
        upward = np.sqrt(across * along)
        front = _BACK_MM + (inside[1] - low[1]) / along
        return np.stack([inside[0] / across, front, _TOP_MM + (inside[2] - high[2]) / upward])
