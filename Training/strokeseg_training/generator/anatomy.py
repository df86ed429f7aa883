"""One person's brain from the template: tissue fractions, regions and places, batched.

The template is read at deformed places; its distances to sulci, cisterns, ventricles and surface then become fluid of
any width, and the cortex keeps its thickness beside it. So age widens what widens in people, and no gyrus dissolves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strokeseg_training.generator.anatomy_scene import AnatomyRanges, AnatomyScene, draw_anatomy
from strokeseg_training.generator.anatomy_spaces import cyst_distance, horn_distance
from strokeseg_training.generator.fields import stacked
from strokeseg_training.generator.pose import PLACE_STEP_MM, around_brain, template_places
from strokeseg_training.generator.shrinkage import Shrinkage
from strokeseg_training.generator.template import Maps, Template
from strokeseg_training.generator.warp import noise, spline

__all__ = ["Anatomy", "AnatomyRanges", "AnatomyScene", "draw_anatomy", "make_anatomy"]

# Tissue is computed where the brain could be: this far outside the dura its share is below a thousandth.
OUTSIDE_MM = 3.0
FAR_MM = 12.0
# Half axes that hold the template's brain, 73 x 90 x 78 mm, and 1 cm around it.
AROUND_MM = (92.0, 112.0, 96.0)
# A box of one voxel and a logistic curve of this scale times the voxel's size have the same variance.
VOXEL_TO_LOGISTIC = math.sqrt(1 / 12) * math.sqrt(3) / math.pi
# Folia are thinner than a voxel, and the hind-brain shrinks less.
HIND_BRAIN_SULCI = 0.5
# Beside a scar each wall of a sulcus recedes by this share of what the ventricle's does.
SULCI_OPEN = 0.12


class Regions(Mapping[str, Tensor]):
    """Name to (N, x, y, z) 0-1, made when first asked for: most patients need few of them."""

    def __init__(self, ready: dict[str, Tensor], lattices: Tensor, names: Sequence[str], axes: list[Tensor]) -> None:
        self._ready = ready
        self._lattices = lattices
        self._names = tuple(names)
        self._axes = axes

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._ready:
            if name not in self._names:
                raise KeyError(f"No region is named '{name}'; known are {', '.join(sorted(self))}.")
            lattice = self._lattices[:, self._names.index(name), None]
            self._ready[name] = spline(lattice, PLACE_STEP_MM, self._axes)[:, 0].clamp(0, 1)
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._ready, *self._names])

    def __len__(self) -> int:
        return len(dict.fromkeys([*self._ready, *self._names]))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """N brains on one grid whose axes run to the right, the front and the top.

    Args:
        fractions: (N, 3, x, y, z) grey matter, white matter, fluid; their sum is `brain`.
        brain: (N, x, y, z) 0-1, the inside of the dura; between 0 and 1 only in voxels that it cuts.
        regions: Name to (N, x, y, z) 0-1. Exact to the voxel: cerebellum, brain_stem, ventricles (as this patient's).
            Soft: deep_grey, insula, sylvian, cortex, cortex_bright, tracts, near_air and near_air_petrous / _frontal /
            _sphenoid, aca / mca / pca _left / _right (the patient's side), watershed, sca, aica, pica. Soft
            ones are 0 from 2 cm outside the brain on.
        mni_mm: (N, 3, x, y, z) template coordinates, x below 0 on the patient's left.
        surface_mm: (N, x, y, z) mm below the dura, negative outside, exact to about 10 mm on either side.
        midplane: (N, 4) unit normal to the right and offset in mm from the middle of the grid.
        spacing_mm: Voxel size.
    """

    fractions: Tensor
    brain: Tensor
    regions: Mapping[str, Tensor]
    mni_mm: Tensor
    surface_mm: Tensor
    midplane: Tensor
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = self.brain.shape[1:]
        return x, y, z

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.brain.device

    @property
    def tissue(self) -> Tensor:
        """(N, x, y, z) uint8, the largest of background, grey matter, white matter and fluid (0-3)."""
        return torch.cat([1 - self.brain[:, None], self.fractions], 1).argmax(1).to(torch.uint8)


def make_anatomy(
    scenes: Sequence[AnatomyScene],
    template: Template,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    device: torch.device,
    widening: Sequence[Shrinkage | None] | None = None,
) -> Anatomy:
    """Brains of the scenes on one grid.

    Args:
        scenes: One a patient.
        template: From `load_template`, on `device`.
        shape: Voxels along (x, y, z).
        spacing_mm: Voxel size.
        device: Where to compute.
        widening: What old infarcts did to a patient's fluid spaces; the brain's outline stays. None: nothing.
    """
    template = template.to(device)
    moves = widening or [None] * len(scenes)
    made = [_one(s, template, shape, spacing_mm, w) for s, w in zip(scenes, moves, strict=True)]

    ready = {
        "cerebellum": stacked([m.cerebellum for m in made]),
        "brain_stem": stacked([m.stem for m in made]),
        "ventricles": stacked([m.ventricles for m in made]),
    }
    return Anatomy(
        fractions=stacked([m.fractions for m in made]),
        brain=stacked([m.brain for m in made]),
        regions=Regions(ready, stacked([m.lattice for m in made]), made[0].names, made[0].axes),
        mni_mm=stacked([m.mni_mm for m in made]),
        surface_mm=stacked([m.surface_mm for m in made]),
        midplane=stacked([m.midplane for m in made]),
        spacing_mm=spacing_mm,
    )


@dataclass(frozen=True, eq=False)
class _Brain:
    fractions: Tensor
    brain: Tensor
    cerebellum: Tensor
    stem: Tensor
    ventricles: Tensor
    mni_mm: Tensor
    surface_mm: Tensor
    midplane: Tensor
    lattice: Tensor
    names: tuple[str, ...]
    axes: list[Tensor]


def _one(
    scene: AnatomyScene,
    template: Template,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    widening: Shrinkage | None,
) -> _Brain:
    mni, nodes, axes = template_places(scene, template, shape, spacing_mm)
    regions = _regions(template.regions, nodes)
    names = template.regions.names
    # The lattice's own depth says where the brain can be; only there the sharp maps are read.
    reach = spline(regions[None, names.index("reach"), None], PLACE_STEP_MM, axes)[0, 0]
    where = torch.nonzero(reach.flatten() > -OUTSIDE_MM)[:, 0]
    places = mni.flatten(1)[:, where]
    sharp = template.surfaces.at(places).T.contiguous()
    maps = dict(zip(template.surfaces.names, sharp, strict=True))
    if widening is not None:
        moved = template.surfaces.at(places + widening(places)).T.contiguous()
        maps = {**dict(zip(template.surfaces.names, moved, strict=True)), "depth": maps["depth"]}
    if max(scene.horns_mm) > 0:
        seen = places if widening is None else places + widening(places)
        horns = horn_distance(seen, scene.horns_mm, scene.size)
        maps["ventricle"] = torch.minimum(maps["ventricle"], horns / scene.size)
    if widening is not None:
        opening = widening.opening(places)
        maps["ventricle"] = maps["ventricle"] - opening / scene.size
        maps["sulcus"] = (maps["sulcus"] - SULCI_OPEN * opening / scene.size).clamp_min(0.0)
    if scene.cysts:
        maps["cyst"] = cyst_distance(places, scene.cysts) * scene.size
    cut = {name: _at(regions[names.index(name)], where, axes) for name in ("cortex", "sylvian")}
    edge = math.hypot(VOXEL_TO_LOGISTIC * sum(spacing_mm) / 3, scene.edge_mm)
    fractions, brain, ventricles = _tissue(scene, maps, cut, mni.flatten(1)[0, where], edge, where, axes)

    def whole(values: Tensor, rest: float = 0.0) -> Tensor:
        out = torch.full((values.shape[0], reach.numel()), rest, device=reach.device)
        out[:, where] = values
        return out.view(-1, *shape)

    surface = reach.clamp(max=-OUTSIDE_MM).flatten().clone()
    surface[where] = maps["depth"] * scene.size
    filled = whole(torch.cat([fractions, torch.stack([brain, maps["cerebellum"], maps["stem"], ventricles])]))
    return _Brain(
        fractions=filled[:3],
        brain=filled[3],
        cerebellum=filled[4],
        stem=filled[5],
        ventricles=filled[6],
        mni_mm=mni,
        surface_mm=surface.view(shape),
        midplane=_midplane(mni.flatten(1)[:, where], where, brain, shape, spacing_mm),
        lattice=regions,
        names=names,
        axes=axes,
    )


def _regions(maps: Maps, nodes: Tensor) -> Tensor:
    """The soft maps at lattice nodes (C, nodes); far from the brain, where nobody looks, they are 0."""
    flat = nodes.flatten(1)
    near = torch.nonzero(around_brain(flat, AROUND_MM))[:, 0]
    values = torch.zeros((len(maps.names), flat.shape[1]), device=flat.device)
    values[maps.names.index("reach")] = -FAR_MM
    values[:, near] = maps.at(flat[:, near]).T
    return values.view(-1, *nodes.shape[1:])


def _at(lattice: Tensor, where: Tensor, axes: list[Tensor]) -> Tensor:
    return spline(lattice[None, None], PLACE_STEP_MM, axes).flatten()[where]


def _tissue(
    scene: AnatomyScene,
    maps: dict[str, Tensor],
    cut: dict[str, Tensor],
    x_mm: Tensor,
    edge: float,
    where: Tensor,
    axes: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Fractions (3, P), brain (P) and ventricular share (P) at the points that can be brain."""
    size = scene.size
    side = 1 + scene.lopsided * torch.tanh(x_mm / 15)
    hind = (maps["cerebellum"] + maps["stem"]).clamp(0, 1)
    patch = noise(scene.seeds[3], scene.patch_wave_mm, axes).flatten()[where]
    width = torch.exp(scene.patchiness * patch) * side * (1 - (1 - HIND_BRAIN_SULCI) * hind)
    wide = 1 + (scene.sylvian - 1) * cut["sylvian"]
    # A sulcus that the average of 152 brains shows deeply is wide in most of them.
    half = scene.sulcus_mm * width * wide * (0.45 + 1.1 * maps["prominence"])
    to_sulcus = maps["sulcus"] * size
    fold = noise(scene.seeds[4], scene.folding_wave_mm, axes).flatten()[where]
    depth = maps["depth"] * size
    rim = depth - scene.rim_mm * width
    cistern = maps["cistern"] * size - scene.cistern_mm * wide * side
    ventricle = maps["ventricle"] * size - scene.ventricle_mm * side
    dry = 1 - (torch.sigmoid((half - to_sulcus) / edge) - torch.sigmoid((-half - to_sulcus) / edge))
    dry = dry * torch.sigmoid(cistern / edge) * torch.sigmoid(rim / edge)
    nearest = torch.minimum(torch.minimum(to_sulcus - half, rim), cistern)
    if scene.new_sulci_mm > 0:
        cross = noise(scene.seeds[5], scene.new_sulci_wave_mm, axes).flatten()[where]
        # A B-spline field of unit variance changes by about this much over a wavelength.
        away = cross.abs() * scene.new_sulci_wave_mm / 4.0
        deep = torch.sigmoid((scene.new_sulci_depth_mm - depth) / 1.0) * cut["cortex"]
        extra = scene.new_sulci_mm * width * deep
        dry = dry * (1 - (torch.sigmoid((extra - away) / edge) - torch.sigmoid((-extra - away) / edge)))
        nearest = torch.minimum(nearest, torch.where(extra > 0.1, away - extra, nearest))
    if "cyst" in maps:
        dry = dry * torch.sigmoid(maps["cyst"] / edge)
        nearest = torch.minimum(nearest, maps["cyst"])
    inner = torch.sigmoid(-ventricle / edge)
    fluid = 1 - dry * (1 - inner)
    odds = scene.contrast * maps["whiteness"] + scene.whiteness + scene.folding * fold
    ribbon = torch.sigmoid((nearest - scene.cortex_mm) / 0.5)
    white = torch.sigmoid(odds) * (1 - cut["cortex"] * (1 - ribbon) * (1 - hind))
    brain = torch.sigmoid(depth / edge)
    solid = (1 - fluid) * brain
    return torch.stack([solid * (1 - white), solid * white, fluid * brain]), brain, inner * brain


def _midplane(
    mni: Tensor, where: Tensor, brain: Tensor, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Tensor:
    """The plane that lies best in the sheet of voxels between the hemispheres, least squares."""
    near = (mni[0].abs() < 4.0) & (brain > 0.5)
    index = where[near]
    steps = (shape[1] * shape[2], shape[2], 1)
    place = torch.stack(
        [((index // steps[k]) % shape[k] - (shape[k] - 1) / 2).double() * spacing_mm[k] for k in range(3)]
        + [torch.ones_like(index, dtype=torch.float64)]
    )
    # x of the template as a linear function of place; its zero is the plane.
    target = mni[0, near].double()
    normal = torch.linalg.solve(place @ place.T, place @ target)
    length = normal[:3].norm()
    return torch.cat([normal[:3], -normal[3:]]).div(length).float()
