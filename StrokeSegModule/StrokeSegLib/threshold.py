"""A new threshold or smallest lesion while the slider moves: mask, segment and table from the kept probabilities.

Everything comes from the nodes of the result, so that it works in a scene that was saved and loaded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError
from strokeseg.lesions import Lesion, Plane, find_lesions
from strokeseg.postprocess import decide, peak_at

from .lesion_table import clearHighlight, writeRows
from .placement import Matrix, arrayOf, ijkToLocal, ijkToWorld, worldPlane
from .result_nodes import TABLE, Memory, ResultNodes, ownSegments
from .segments import setMask
from .snapshots import addPart


class ThresholdModel:
    """Decides again and again on one probability map; as `strokeseg.relabel` does in the engine.

    Only the box around the brain is looked at: outside of the brain the map is 0, and nowhere else.

    Args:
        probability: (i, j, k), 0 to 1; it is copied.
        affine: 4x4, voxel index to RAS mm.
        images: ``adc`` in 1e-3 mm²/s and ``dwi``, (i, j, k), where they are at hand.
        midplane: See `strokeseg.lesions.find_lesions`.
        own: The model's threshold, and the peak that lesions must reach at it; 0: none.
    """

    def __init__(
        self,
        probability: NDArray[Any],
        affine: ArrayLike,
        *,
        images: Mapping[str, NDArray[Any]] | None = None,
        midplane: Plane | None = None,
        own: tuple[float, float] = (0.5, 0.0),
    ) -> None:
        self._shape = probability.shape
        brain = probability > 0
        self._box = _boxOf(brain)
        self._probability = np.ascontiguousarray(probability[self._box])
        self._brain = np.ascontiguousarray(brain[self._box])
        self._images = {role: np.ascontiguousarray(array[self._box]) for role, array in (images or {}).items()}
        self._affine = np.array(affine, dtype=np.float64)
        self._affine[:3, 3] += self._affine[:3, :3] @ np.array([s.start for s in self._box], dtype=np.float64)
        self._midplane, self._own = midplane, own

    def mask(self, threshold: float, minimumMl: float) -> NDArray[np.uint8]:
        """(i, j, k), 1 in lesions.

        Raises:
            InputError: A threshold outside 0 to 1, a minimum below 0, or a map that holds no probabilities.
        """
        mask = np.zeros(self._shape, dtype=np.uint8)
        mask[self._box] = self._decided(threshold, minimumMl)
        return mask

    def lesions(self, threshold: float, minimumMl: float) -> list[Lesion]:
        """The lesions of that mask, largest first; raises as `mask` does."""
        return self.decided(threshold, minimumMl)[1]

    def decided(self, threshold: float, minimumMl: float) -> tuple[NDArray[np.uint8], list[Lesion]]:
        """Mask and lesions in one go; raises as `mask` does."""
        inside = self._decided(threshold, minimumMl)
        mask = np.zeros(self._shape, dtype=np.uint8)
        mask[self._box] = inside
        _labels, lesions = find_lesions(
            inside,
            self._affine,
            probability=self._probability,
            adc=self._images.get("adc"),
            dwi=self._images.get("dwi"),
            brain=self._brain,
            midplane=self._midplane,
        )
        return mask, lesions

    def _decided(self, threshold: float, minimumMl: float) -> NDArray[np.uint8]:
        return decide(
            self._probability,
            threshold=threshold,
            minimum_lesion_ml=minimumMl,
            affine=self._affine,
            peak=peak_at(threshold, own_threshold=self._own[0], own_peak=self._own[1]),
            brain=self._brain,
        )


class LiveThreshold:
    """The slider's side of a result in the scene.

    Args:
        nodes: A result that was just shown, or `ResultNodes.of` a loaded segmentation node.
    """

    def __init__(self, nodes: ResultNodes) -> None:
        self._nodes = nodes
        self._model: ThresholdModel | None = None
        self._madeFor: tuple[Any, ...] = ()

    @property
    def memory(self) -> Memory | None:
        """The numbers that are shown, and the model's; None where the segmentation is none of ours."""
        return Memory.read(self._nodes.segmentation)

    def whyNot(self) -> str:
        """Why the threshold cannot be moved; "" where it can."""
        memory = self.memory
        if not self._nodes.alive:
            return _("The result was deleted from the scene.")
        if memory is None:
            return _("This segmentation was not made by StrokeSeg.")
        if memory.rule == "argmax":
            return _("The model has several classes and takes the most probable one; it has no threshold.")
        if ResultNodes.of(self._nodes.segmentation).probability is None:
            return _("The probability volume was deleted from the scene. Run again to move the threshold.")
        return ""

    def prepare(self) -> None:
        """Do now, after a result was shown, what the first move would do: sample the scans, cut out the brain."""
        nodes = ResultNodes.of(self._nodes.segmentation)
        if not self.whyNot():
            self._current(nodes)

    def apply(self, threshold: float, minimumMl: float) -> list[Lesion]:
        """Show the lesions at another threshold: segment, table, and what the result remembers.

        Returns:
            The rows, largest first.

        Raises:
            InputError: It cannot be moved (see `whyNot`), or a number is outside its range.
        """
        reason = self.whyNot()
        if reason:
            raise InputError(
                _("The threshold cannot be changed."), reason, _("Run the model again, or choose another result.")
            )
        self._nodes = nodes = ResultNodes.of(self._nodes.segmentation)
        mask, lesions = self._current(nodes).decided(threshold, minimumMl)
        segmentId = next((i for i, value in ownSegments(nodes.segmentation) if value == 1), None)
        if segmentId is None:
            raise InputError(
                _("The threshold cannot be changed."),
                _("The lesion segment was deleted from the segmentation '{name}'.").format(
                    name=nodes.segmentation.GetName()
                ),
                _("Run the model again."),
            )
        clearHighlight(nodes.segmentation.GetScene())
        setMask(nodes.segmentation, segmentId, mask, ijkToLocal(nodes.probability))
        table = nodes.table or addPart(nodes, TABLE)
        writeRows(table, lesions)
        memory = self.memory
        assert memory is not None
        replace(memory, threshold=float(threshold), minimum_ml=float(minimumMl)).write(nodes.segmentation)
        return lesions

    def reset(self) -> list[Lesion]:
        """Back to the model's own threshold and smallest lesion; raises as `apply` does."""
        memory = self.memory
        if memory is None:
            return self.apply(0.5, 0.0)
        return self.apply(memory.model_threshold, memory.model_minimum_ml)

    def _current(self, nodes: ResultNodes) -> ThresholdModel:
        """The model for the nodes as they are now; a new one where a map was changed or a volume was moved."""
        memory = self.memory
        assert memory is not None
        world = ijkToWorld(nodes.probability)
        scans = {role: nodes.image(role) for role in ("adc", "dwi")}
        involved = [nodes.probability, *(node for node in scans.values() if _hasVoxels(node))]
        own = (memory.model_threshold, memory.model_peak)
        madeFor = (memory.midplane, own, world.tobytes(), *((n.GetID(), n.GetImageData().GetMTime()) for n in involved))
        if self._model is None or madeFor != self._madeFor:
            midplane = worldPlane(memory.midplane, world) if memory.midplane else None
            shape = arrayOf(nodes.probability).shape
            factors = {"adc": memory.adc_factor or 0.0, "dwi": 1.0}
            images = {
                role: _onGrid(node, shape, world) * np.float32(factors[role])
                for role, node in scans.items()
                if _hasVoxels(node) and factors[role]
            }
            self._model = ThresholdModel(arrayOf(nodes.probability), world, images=images, midplane=midplane, own=own)
            self._madeFor = madeFor
        return self._model


def _boxOf(brain: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box with all of a mask; of an empty one, a single voxel."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(brain.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 1))
    return tuple(box)


def _hasVoxels(node: Any) -> bool:
    return node is not None and node.GetImageData() is not None


def _onGrid(node: Any, shape: tuple[int, ...], world: Matrix) -> NDArray[np.float32]:
    """A scan's values on another grid, as the engine has them: copied where voxels agree, else linear, 0 outside."""
    from scipy import ndimage

    array = arrayOf(node)
    between = np.linalg.solve(ijkToWorld(node), world)
    if array.shape == shape and np.allclose(between, np.eye(4), atol=1e-4):
        return np.asarray(array, dtype=np.float32)
    values: NDArray[np.float32] = ndimage.affine_transform(
        np.asarray(array, dtype=np.float32),
        between[:3, :3],
        between[:3, 3],
        output_shape=shape,
        output=np.float32,
        order=1,
        mode="grid-constant",
    )
    return values
