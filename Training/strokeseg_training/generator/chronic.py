"""Old infarcts on T1: cavity, scar and shrinkage. What differs from acute ones; shapes are the same rooms'.

Volumes and numbers of parts after the ATLAS R3.0 masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._draws import chance, field_seed, uniform
from strokeseg_training.generator.lesion_depth import extent, level_holding, smoothstep
from strokeseg_training.generator.lesion_draw import EXAM_KINDS, draw_look, library_part, log_normal, procedural_part
from strokeseg_training.generator.lesion_head import Box, Head
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesion_looks import Canvas
from strokeseg_training.generator.lesion_scene import ChronicLook, LesionPart, LesionRanges, LesionScene, Pull
from strokeseg_training.generator.lesion_territories import TERRITORIES, territory_line

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
    """A scar: fluid in its depth, a darker rim, faint change a little beyond. Cavity and rim are the label.

    Args:
        canvas: The patient's maps, whole grid.
        head: The patient, cut to `box`.
        box: Where `depth` lies.
        depth: (x, y, z) mm from the border, positive inside.
        look: What has become of it.
    """
    share = extent(depth, look.edge_mm, head)
    canvas.add(box, share)
    clouds = head.field(look.seed, 9.0)
    if look.cavity_volume > 0.01:
        tissue = share * head.tissue
        level = level_holding(depth, tissue, look.cavity_volume * float(tissue.sum()))
        # A thin scar has no room for its rim: two fifths of the cavity open up all the same.
        core = level_holding(depth, tissue, 0.4 * look.cavity_volume * float(tissue.sum()))
        start = torch.maximum(level, core.clamp_max(look.rim_mm)) + 0.8 * clouds
        canvas.cavity[box] = torch.maximum(
            canvas.cavity[box], share * look.cavity * smoothstep((depth - start) / 2.0 + 0.5)
        )
    halo = smoothstep(1.0 + depth / max(look.halo_mm, 0.1)) * (0.25 + 0.1 * clouds).clamp(0.0, 0.5)
    scar = torch.maximum(share * (1.0 + 0.15 * clouds).clamp(0.5, 1.3), halo)
    canvas.t1_factor[box] = (canvas.t1_factor[box] * (1.0 + scar * (look.rim_t1 - 1.0))).clamp(0.3, 1.0)


def widening(scene: LesionScene) -> Callable[[Tensor], Tensor] | None:
    """How old infarcts draw ventricles and sulci towards themselves.

    Added to the template coordinates before the tissue maps are read there (not the brain's outline: the skull stays),
    it makes every voxel near a lesion show what lies a little further from it.

    Args:
        scene: One patient's lesions.

    Returns:
        Template places (3, ...) to the displacement there in template mm, same shape; None where nothing is drawn.
    """
    if not scene.pulls:
        return None

    def displacement(places_mm: Tensor) -> Tensor:
        moved = torch.zeros_like(places_mm)
        for pull in scene.pulls:
            away = places_mm - places_mm.new_tensor(pull.centre_mm).view(3, *[1] * (places_mm.dim() - 1))
            square = away.square().sum(0) / pull.radius_mm**2
            # r exp((1 - r²) / 2) is 1 at its highest, r = 1; its slope stays above -0.74, so that nothing folds over.
            moved += away * (torch.exp(0.5 - 0.5 * square) * (pull.amount_mm / pull.radius_mm))
        return moved

    return displacement


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
    )


def _pulls(rng: Rng, ranges: LesionRanges, part: LesionPart, library: LesionLibrary | None) -> tuple[Pull, ...]:
    """Shrinkage round the largest scar, where its place is known in the template."""
    amount = uniform(rng, ranges.pull_mm)
    if part.kind == "library" and library is not None:
        x, y, z = library.mask(part.library_set, part.library_index).centre_mm
        centre = ((-x if part.mirror else x) + part.shift_mm[0], y + part.shift_mm[1], z + part.shift_mm[2])
    elif part.kind in {"territory", "scatter"}:
        line = territory_line(part.territory, part.side, part.span).mean(0)
        centre = (float(line[0]), float(line[1]), float(line[2]))
    else:
        return ()
    # Small scars do not shrink a brain: full strength from about 30 ml.
    amount *= min(1.0, part.volume_ml / 30.0)
    return (Pull(centre, uniform(rng, (20.0, 45.0)), amount),) if amount > 0.2 else ()
