"""Where a volume node's voxels lie in the patient, and how an array of another program comes onto its grid.

Frames: arrays are (i, j, k) in MRML's voxel order, worlds are RAS mm, parent transforms included.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError

Matrix = NDArray[np.float64]

# Half of what the position of an overlay may be off.
_TOLERANCE_MM = 0.05
# What scanners' six digits leave of a rotation; a scaling by a thousandth moves the edge of a head by a tenth of a mm.
_RIGID = 1e-4


def matrixOf(vtkMatrix: Any) -> Matrix:
    """A vtkMatrix4x4 as an array."""
    return np.array([[vtkMatrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def vtkMatrixOf(matrix: ArrayLike) -> Any:
    """A 4x4 array as a vtkMatrix4x4."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=np.float64).ravel().tolist())
    return result


def ijkToLocal(volumeNode: Any) -> Matrix:
    """Voxel index to RAS mm as the volume says it, its parent transforms left out."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return matrixOf(matrix)


def parentToWorld(node: Any) -> Matrix:
    """What a node's parent transforms do together.

    Raises:
        InputError: They scale, mirror, shear or warp: volumes and distances would not be those of the patient.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    between = vtk.vtkMatrix4x4()
    linear = slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(transform, None, between)
    matrix = matrixOf(between)
    turn = matrix[:3, :3]
    if linear and np.abs(turn.T @ turn - np.eye(3)).max() <= _RIGID and np.linalg.det(turn) > 0:
        return matrix
    raise InputError(
        _("The transform of '{name}' cannot be used.").format(name=node.GetName()),
        _(
            "'{transform}' scales, mirrors, shears or warps the volume; only turns and shifts leave its size as it is."
        ).format(transform=transform.GetName()),
        _("Harden the transform first: in the Data module, right-click the volume's transform, 'Harden transform'."),
    )


def ijkToWorld(volumeNode: Any) -> Matrix:
    """Voxel index to RAS mm in the world, 4x4; raises as `parentToWorld` does."""
    return parentToWorld(volumeNode) @ ijkToLocal(volumeNode)


def arrayOf(volumeNode: Any) -> NDArray[Any]:
    """The voxels (i, j, k), a view into the node's memory."""
    array: NDArray[Any] = slicer.util.arrayFromVolume(volumeNode)
    return array.T


def ontoGridOf(volumeNode: Any, array: NDArray[Any], affine: ArrayLike) -> NDArray[Any]:
    """A result's array in the voxel order of a volume node; voxels are renumbered, never interpolated.

    Readers of one file may number its voxels differently (Slicer's own turns left-handed grids around), so the
    order is taken from the positions in the patient, not from the file.

    Args:
        volumeNode: The volume that the result belongs to.
        array: (x, y, z) as its reader gave it.
        affine: 4x4, index into `array` to RAS mm in the world.

    Returns:
        (i, j, k) on the node's grid.

    Raises:
        InputError: The voxels of the two do not lie at the same places, or the node's transform is not rigid.
    """
    shape = tuple(int(n) for n in volumeNode.GetImageData().GetDimensions())
    world = ijkToWorld(volumeNode)
    between = np.linalg.inv(world) @ np.asarray(affine, dtype=np.float64)
    turn = np.rint(between[:3, :3])
    if not np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)) or not np.array_equal(
        np.abs(turn).sum(axis=1), np.ones(3)
    ):
        raise _elsewhere(volumeNode, _("its voxel axes point elsewhere"))
    axes = [int(np.flatnonzero(turn[axis])[0]) for axis in range(3)]
    flipped = [turn[axis, axes[axis]] < 0 for axis in range(3)]
    if tuple(array.shape[a] for a in axes) != shape:
        raise _elsewhere(volumeNode, _("it has {n} voxels").format(n=" x ".join(str(n) for n in array.shape)))
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = [n - 1 if turned else 0 for n, turned in zip(shape, flipped, strict=True)]
    corners = np.array([[*c, 1.0] for c in product(*((0.0, n - 1.0) for n in array.shape))])
    apart = (corners @ np.asarray(affine, dtype=np.float64).T - corners @ (world @ exact).T)[:, :3]
    farthest = float(np.sqrt((apart**2).sum(axis=1)).max())
    if farthest > _TOLERANCE_MM:
        raise _elsewhere(volumeNode, _("its voxels lie up to {n:.3g} mm beside those of the volume").format(n=farthest))
    turned = array.transpose(axes)
    return turned[tuple(slice(None, None, -1 if f else 1) for f in flipped)]


def localCovector(volumeNode: Any, normal: ArrayLike, offsetMm: float) -> Matrix:
    """A plane of the world as the plane of a volume's voxel indices; it then follows the volume wherever it is moved.

    Args:
        volumeNode: The volume.
        normal: Unit vector in RAS.
        offsetMm: normal · p of the plane's points.

    Returns:
        (4,) c with c · (i, j, k, 1) = distance from the plane in mm.
    """
    plane: Matrix = np.array([*np.asarray(normal, dtype=np.float64), -offsetMm]) @ ijkToWorld(volumeNode)
    return plane


def worldPlane(covector: ArrayLike, world: Matrix) -> tuple[tuple[float, float, float], float]:
    """The plane of `localCovector` in the world again: (normal, offset in mm).

    Args:
        covector: (4,).
        world: 4x4, voxel index to RAS mm now.
    """
    plane = np.asarray(covector, dtype=np.float64) @ np.linalg.inv(world)
    length = float(np.linalg.norm(plane[:3]))
    r, a, s = (float(v) / length for v in plane[:3])
    return (r, a, s), -float(plane[3]) / length


def _elsewhere(volumeNode: Any, seen: str) -> InputError:
    return InputError(
        _("The result does not lie on the volume '{name}'.").format(name=volumeNode.GetName()),
        _("Compared with the volume as it is now, {seen}; it was moved or changed after the run had begun.").format(
            seen=seen
        ),
        _("Run again, or choose the volume that the result was made from."),
    )
