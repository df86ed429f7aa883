"""Old infarcts on T1: cavity, scar and shrinkage. What differs from acute ones; shapes are the same rooms'.

Volumes and numbers of parts after the ATLAS R3.0 masks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._draws import chance, field_seed, uniform
from strokeseg_training.generator.lesion_depth import extent, level_holding, millimetres, smoothstep
from strokeseg_training.generator.lesion_draw import EXAM_KINDS, draw_look, library_part, log_normal, procedural_part
from strokeseg_training.generator.lesion_head import Box, Head
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesion_looks import Canvas
from strokeseg_training.generator.lesion_scene import ChronicLook, LesionPart, LesionRanges, LesionScene, Pull
from strokeseg_training.generator.lesion_territories import TERRITORIES, territory_line
from strokeseg_training.generator.shrinkage import Shrinkage

Rng = np.random.Generator
_LIBRARY_FROM_ML = 4.0
"""Smaller scars are procedural: the smallest real chronic mask has 5 ml."""


def draw_chronic(rng: Rng, ranges: LesionRanges, library: LesionLibrary | None) -> LesionScene:
    """All scars of one chronic patient.

    Args:
        rng: Source of every choice.
        ranges: What to choose from.
        library: Real chronic masks; without it, and in the exam's style, all shapes are procedural.
    """
    if chance(rng, ranges.empty_share):
        return LesionScene(ranges.style, (), ())
    masks = None if ranges.style == "exam" else library
    total_ml = log_normal(rng, ranges.chronic_ln, ranges.chronic_ml)
    # Small scars keep a heavy tail: a few patients have ten and more.
    count = min(int(rng.geometric(1.0 / (1.0 + ranges.chronic_satellites))) - 1, 12)
    main_ml = total_ml * (1.0 if count == 0 else uniform(rng, (0.7, 0.98)))
    parts = [_scar(rng, ranges, masks, main_ml)]
    rest = rng.dirichlet(np.ones(count)) * (total_ml - main_ml) if count else ()
    parts += [_scar(rng, ranges, None, float(max(ml, ranges.chronic_ml[0]))) for ml in rest]
    return LesionScene(ranges.style, tuple(parts), (), _pulls(rng, ranges, parts[0], masks))


def paint_chronic(canvas: Canvas, head: Head, box: Box, depth: Tensor, look: ChronicLook) -> None:
    """A scar: fluid in its depth, a dark rim that fades outwards, faint change of the white matter beyond.

    Cavity and rim are the label.

    Args:
        canvas: The patient's maps, whole grid.
        head: The patient, cut to `box`.
        box: Where `depth` lies.
        depth: (x, y, z) about the mm from the border, positive inside.
        look: What has become of it.
    """
    depth = millimetres(depth, head)
    share = extent(depth, look.edge_mm, head)
    canvas.add(box, share)
    clouds = head.field(look.seed, 9.0)
    if look.cavity_volume > 0.01:
        tissue = share * head.tissue
        wanted = look.cavity_volume * float(tissue.sum())
        form = _balls(depth, head, look) if look.balls else depth
        start = level_holding(form, tissue, wanted)
        if not look.balls:
            # A thin scar has no room for its rim: two fifths of the cavity open up all the same.
            core = level_holding(form, tissue, 0.4 * wanted)
            start = torch.maximum(start, core.clamp_max(look.rim_mm))
        start = start + 0.8 * clouds
        hole = share * look.cavity * smoothstep((form - start) / 2.0 + 0.5)
        if look.strands > 0.01:
            # Where a field changes its sign lies a sheet.
            sheet = torch.exp(-0.5 * (head.field(look.seed + 1, 11.0) / 0.22).square())
            hole = hole * (1.0 - look.strands * sheet)
        canvas.cavity[box] = torch.maximum(canvas.cavity[box], hole)
    fade = 0.7 + 0.3 * smoothstep(0.25 + depth / max(look.rim_mm, 1.0))
    halo = smoothstep(1.0 + depth / max(look.halo_mm, 0.1)) * (0.25 + 0.1 * clouds).clamp(0.0, 0.5) * head.white
    scar = torch.maximum(share * fade * (1.0 + 0.15 * clouds).clamp(0.5, 1.3), halo)
    canvas.t1_factor[box] = (canvas.t1_factor[box] * (1.0 + scar * (look.rim_t1 - 1.0))).clamp(0.3, 1.0)


def _balls(depth: Tensor, head: Head, look: ChronicLook) -> Tensor:
    """Balls round a few points of the depth, in mm; how far inside the nearest one a voxel is."""
    rng = np.random.default_rng([look.seed, 7])
    inside = torch.nonzero(depth > 0.0).cpu().numpy()
    count = int(rng.integers(2, 7))
    form = torch.full_like(depth, -60.0)
    for row in rng.integers(0, max(len(inside), 1), count) if len(inside) else ():
        voxel = [float(v + c) for v, c in zip(inside[int(row)], head.corner, strict=True)]
        x, y, z = head.offsets_mm(voxel)
        form = torch.maximum(form, float(rng.uniform(2.0, 7.0)) - (x.square() + y.square() + z.square()).sqrt())
    return form


def widening(scene: LesionScene) -> Shrinkage | None:
    """How the old infarcts of one patient draw and widen ventricles and sulci; None where they do not."""
    return Shrinkage(scene.pulls) if scene.pulls else None


def _scar(rng: Rng, ranges: LesionRanges, library: LesionLibrary | None, volume_ml: float) -> LesionPart:
    acute = draw_look(rng, ranges, "day")
    if library is not None and volume_ml >= _LIBRARY_FROM_ML and chance(rng, ranges.library_share):
        index = library.draw_near(rng, ranges.chronic_set, volume_ml)
        part = library_part(rng, ranges, "chronic", acute, index)
        part = replace(part, library_set=ranges.chronic_set)
    else:
        part = procedural_part(rng, ranges, "chronic", acute, small=volume_ml < 3.0)
        part = _roomy(rng, part, volume_ml)
    # Scars are smoother and in fewer pieces than fresh infarcts.
    smooth = replace(part, ragged=0.35 * part.ragged, grey_pull=0.4 * part.grey_pull)
    return replace(smooth, volume_ml=volume_ml, look=_look(rng, ranges, volume_ml))


def _roomy(rng: Rng, part: LesionPart, volume_ml: float) -> LesionPart:
    """The part in a bed that can hold the volume; small ones as single pieces rather than scattered."""
    if part.kind == "scatter":
        part = replace(part, kind="cortex" if volume_ml < 10.0 else "territory")
    if volume_ml > 0.012 * TERRITORIES[part.territory].radius_mm ** 3:
        large = ("mca_trunk", "mca_superior", "mca_inferior", "aca", "pca_calcarine")
        fitting = [name for name in large if volume_ml <= 0.012 * TERRITORIES[name].radius_mm ** 3] or ["mca_trunk"]
        kind = part.kind if part.kind in EXAM_KINDS else "territory"
        part = replace(part, territory=fitting[int(rng.integers(len(fitting)))], kind=kind, span=(0.0, 1.0))
    return part


def _look(rng: Rng, ranges: LesionRanges, volume_ml: float) -> ChronicLook:
    low, high = ranges.rim_mm
    # A lacune has no room for a thick rim.
    high = max(low, min(high, 1.2 + volume_ml))
    return ChronicLook(
        edge_mm=uniform(rng, (1.0, 3.0)),
        cavity=uniform(rng, ranges.cavity),
        cavity_volume=0.0 if chance(rng, 0.15) else uniform(rng, ranges.cavity_volume),
        rim_mm=uniform(rng, (low, high)),
        rim_t1=uniform(rng, ranges.rim_t1),
        halo_mm=uniform(rng, ranges.halo_mm),
        seed=field_seed(rng),
        strands=uniform(rng, ranges.strands),
        balls=ranges.style == "exam" and chance(rng, 0.7),
    )


def _pulls(rng: Rng, ranges: LesionRanges, part: LesionPart, library: LesionLibrary | None) -> tuple[Pull, ...]:
    """Shrinkage round the largest scar of the cerebrum; a placed shape lies somewhere along its territory's line."""
    amount, wide, radius = uniform(rng, ranges.pull_mm), uniform(rng, ranges.open_mm), uniform(rng, (20.0, 45.0))
    if part.kind == "library" and library is not None:
        x, y, z = library.mask(part.library_set, part.library_index).centre_mm
        centre = ((-x if part.mirror else x) + part.shift_mm[0], y + part.shift_mm[1], z + part.shift_mm[2])
    elif part.territory and TERRITORIES[part.territory].within == "cerebrum":
        line = territory_line(part.territory, part.side, part.span).mean(0)
        centre = (float(line[0]), float(line[1]), float(line[2]))
    else:
        return ()
    # Small scars do not shrink a brain: full strength from about 30 ml.
    share = min(1.0, part.volume_ml / 30.0)
    return (Pull(centre, radius, amount * share, wide * share),) if max(amount, wide) * share > 0.2 else ()
