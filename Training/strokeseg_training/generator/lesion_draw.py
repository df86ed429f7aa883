"""How the lesions of one acute patient are decided: pattern, vessel, shape, age."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strokeseg_training.generator._draws import chance, field_seed, uniform
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesion_scene import (
    AcuteLook,
    Embolus,
    Kind,
    LesionPart,
    LesionRanges,
    LesionScene,
    Pair,
    Shower,
    Stage,
    Triple,
)
from strokeseg_training.generator.lesion_territories import TERRITORIES

Rng = np.random.Generator
EXAM_KINDS: tuple[Kind, ...] = ("metaballs", "walk", "branches", "cells")
_KINDS: tuple[Kind, ...] = ("territory", "scatter", "wedge", "cortex", "lacune")
_LACUNES = ("mca_lenticulostriate", "choroidal_anterior", "pca_thalamus", "watershed_internal")


def draw_acute(rng: Rng, ranges: LesionRanges, library: LesionLibrary | None) -> LesionScene:
    """All infarcts of one acute patient.

    Args:
        rng: Source of every choice.
        ranges: What to choose from.
        library: Real masks; without it, and in the exam's style, all shapes are procedural.
    """
    if chance(rng, ranges.empty_share):
        return LesionScene(ranges.style, (), ())
    masks = None if ranges.style == "exam" else library
    stage = draw_stage(rng, ranges)
    pattern = rng.random()
    single = pattern < ranges.single_share
    scattered = not single and pattern < ranges.single_share + ranges.scattered_share
    parts: list[LesionPart] = []
    if not scattered or chance(rng, 0.55):
        parts.append(_infarct(rng, ranges, masks, stage, scattered))
        parts += _other_side(rng, ranges, parts[0])
        while len(parts) < 4 and chance(rng, ranges.second_infarct_share):
            other = stage if not chance(rng, ranges.several_ages_share) else draw_stage(rng, ranges)
            parts.append(_infarct(rng, ranges, masks, other, small=True))
    showers = () if single else _showers(rng, ranges, stage, parts)
    return LesionScene(ranges.style, tuple(parts), showers)


def draw_stage(rng: Rng, ranges: LesionRanges) -> Stage:
    """An age of an acute infarct."""
    shares = (ranges.hyperacute_share, ranges.day_share, ranges.days_share, ranges.late_share)
    names: tuple[Stage, ...] = ("hyperacute", "day", "days", "late", "faint")
    return names[int(np.searchsorted(np.cumsum(shares), rng.random(), side="right"))]


def draw_look(rng: Rng, ranges: LesionRanges, stage: Stage) -> AcuteLook:
    """Tissue change of an infarct of that age."""
    d_ratio, t2_ratio = _ratios(rng, ranges, stage)
    return AcuteLook(
        d_ratio=d_ratio,
        t2_ratio=t2_ratio,
        edge_mm=uniform(rng, ranges.edge_mm),
        border_mm=uniform(rng, ranges.border_mm),
        border_strength=uniform(rng, ranges.border_strength),
        patch_mm=uniform(rng, ranges.patch_mm),
        patch_share=uniform(rng, ranges.patch_share),
        patch_strength=uniform(rng, ranges.patch_strength),
        texture_sd=uniform(rng, ranges.texture_sd),
        mismatch=uniform(rng, ranges.mismatch),
        cells=ranges.style == "exam",
        seed=field_seed(rng),
    )


def log_normal(rng: Rng, mean_sd: Pair, low_high: Pair) -> float:
    """A number whose logarithm is normal, cut."""
    return float(np.clip(np.exp(rng.normal(*mean_sd)), *low_high))


def three(rng: Rng, sd: float) -> Triple:
    """Three normal numbers, cut at two and a half standard deviations."""
    x, y, z = np.clip(rng.normal(0.0, 1.0, 3), -2.5, 2.5) * sd
    return float(x), float(y), float(z)


def a_place(rng: Rng) -> Triple:
    """Three quantiles."""
    x, y, z = rng.random(3)
    return float(x), float(y), float(z)


def draw_territory(rng: Rng, ranges: LesionRanges) -> str:
    """A key of `TERRITORIES`, by the vessels' shares."""
    vessels = ("mca", "pca", "aca", "cerebellum", "stem", "watershed")
    shares = np.array([getattr(ranges, f"{v}_share") for v in vessels], dtype=float)
    vessel = vessels[int(rng.choice(len(vessels), p=shares / shares.sum()))]
    names = [name for name, t in TERRITORIES.items() if t.vessel == vessel]
    weights = np.array([TERRITORIES[name].share for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def procedural_part(rng: Rng, ranges: LesionRanges, stage: Stage, look: AcuteLook, small: bool) -> LesionPart:
    """An infarct that no mask is needed for."""
    exam = ranges.style == "exam"
    shares = np.array(ranges.kind_shares) * ((0.4, 1.0, 1.0, 1.5, 1.5) if small else (1.0,) * 5)
    kind = _KINDS[int(rng.choice(5, p=shares / shares.sum()))]
    territory = draw_territory(rng, ranges)
    within = TERRITORIES[territory].within
    if within == "brain_stem":
        kind = "lacune"
    elif kind == "lacune" and within == "cerebrum":
        territory = _LACUNES[int(rng.integers(len(_LACUNES)))]
    elif TERRITORIES[territory].vessel == "watershed":
        kind = "scatter" if chance(rng, 0.6) else "territory"
    volume = {
        "territory": ranges.territory_ln,
        "scatter": ranges.scatter_ln,
        "wedge": ranges.wedge_ln,
        "cortex": ranges.cortex_ln,
        "lacune": ranges.lacune_ln,
    }[kind]
    # Beds of small vessels cannot hold more than a part of their own cylinder.
    radius = TERRITORIES[territory].radius_mm
    most = min(ranges.largest_ml, (0.011 if kind == "scatter" else 0.016) * radius**3, 1.5 if kind == "lacune" else 1e9)
    volume_ml = log_normal(rng, volume, (0.03, max(0.3, most)))
    grey = {"cortex": (1.5, 4.0), "scatter": (0.2, 2.5), "lacune": (0.0, 0.0)}.get(kind, ranges.grey_pull)
    noise = {"scatter": (0.9, 2.2), "lacune": (0.05, 0.25), "cortex": (0.2, 0.7)}.get(kind, (0.15, 0.7))
    noise_mm = (5.0, 12.0) if kind in {"scatter", "cortex"} else ranges.fragment_mm
    flat = {"cortex": 0.25, "lacune": 0.3}.get(kind, 0.15)
    low, high = sorted(rng.random(2).tolist())
    return LesionPart(
        kind=EXAM_KINDS[int(rng.integers(len(EXAM_KINDS)))] if exam else kind,
        stage=stage,
        territory=territory,
        side=1 if chance(rng, 0.5) else -1,
        volume_ml=volume_ml,
        place=a_place(rng),
        span=(max(0.0, low - 0.1), min(1.0, high + 0.1)),
        ragged=uniform(rng, noise),
        ragged_mm=uniform(rng, noise_mm),
        grey_pull=uniform(rng, grey),
        stretch=three(rng, flat),
        turn_deg=three(rng, 40.0),
        shift_mm=(0.0, 0.0, 0.0),
        warp_mm=0.0,
        mirror=False,
        keep=1.0,
        library_set="",
        library_index=0,
        seed=field_seed(rng),
        look=look,
    )


def library_part(rng: Rng, ranges: LesionRanges, stage: Stage, look: AcuteLook, index: int) -> LesionPart:
    """A real acute mask, moved against the anatomy, often torn and sometimes reduced to parts."""
    whole = chance(rng, ranges.keep_whole_share)
    return LesionPart(
        kind="library",
        stage=stage,
        territory="",
        side=0,
        volume_ml=0.0,
        place=(0.5, 0.5, 0.5),
        span=(0.0, 1.0),
        ragged=uniform(rng, ranges.fragment),
        ragged_mm=uniform(rng, ranges.fragment_mm),
        grey_pull=uniform(rng, ranges.grey_pull),
        stretch=three(rng, ranges.stretch),
        turn_deg=three(rng, ranges.turn_deg),
        shift_mm=three(rng, ranges.shift_mm),
        warp_mm=uniform(rng, ranges.warp_mm),
        mirror=chance(rng, ranges.mirror_share),
        keep=1.0 if whole else uniform(rng, ranges.keep),
        library_set=ranges.acute_set,
        library_index=index,
        seed=field_seed(rng),
        look=look,
    )


def _infarct(rng: Rng, ranges: LesionRanges, library: LesionLibrary | None, stage: Stage, small: bool) -> LesionPart:
    look = draw_look(rng, ranges, stage)
    if library is not None and chance(rng, ranges.library_share):
        bias = 2.0 * ranges.small_bias if small else ranges.small_bias
        return library_part(rng, ranges, stage, look, library.draw(rng, ranges.acute_set, bias))
    return procedural_part(rng, ranges, stage, look, small)


def _other_side(rng: Rng, ranges: LesionRanges, part: LesionPart) -> list[LesionPart]:
    """The same vessel's bed on the other side, with its own noise and size: bilateral and midline infarcts."""
    vessel = TERRITORIES[part.territory].vessel if part.territory else ""
    # Paired beds that one clot or one fall of pressure can close together.
    often = {"stem": 0.3, "aca": 0.3, "pca": 0.25, "watershed": 0.4, "cerebellum": 0.25}
    if not chance(rng, max(often.get(vessel, 0.0), ranges.bilateral_share)):
        return []
    half = replace(part, seed=field_seed(rng), look=replace(part.look, seed=field_seed(rng)))
    if part.kind == "library":
        return [replace(half, mirror=not part.mirror, shift_mm=three(rng, ranges.shift_mm), warp_mm=ranges.warp_mm[1])]
    size = float(np.exp(rng.normal(0.0, 0.5)))
    return [replace(half, side=-part.side, volume_ml=min(part.volume_ml * size, ranges.largest_ml), place=a_place(rng))]


def _showers(rng: Rng, ranges: LesionRanges, stage: Stage, parts: list[LesionPart]) -> tuple[Shower, ...]:
    # Few in most patients, dozens in some: the square of a uniform number.
    count = round(uniform(rng, (0.0, 1.0)) ** 2 * (ranges.emboli[1] - ranges.emboli[0])) + ranges.emboli[0]
    count = max(count, 0 if parts else 1)
    if count == 0:
        return ()
    near = bool(parts) and chance(rng, 0.6)
    everywhere = not near and chance(rng, 0.2)
    other = stage if not chance(rng, 0.5 * ranges.several_ages_share) else draw_stage(rng, ranges)
    side = parts[0].side if parts and parts[0].side else 1 if chance(rng, 0.5) else -1
    side = 0 if chance(rng, ranges.emboli_both_sides_share) else side
    shower = Shower(
        around="lesion" if near else "anywhere" if everywhere else "territory",
        territory=draw_territory(rng, ranges) if not chance(rng, 0.35) else "watershed_anterior",
        side=side,
        spread_mm=uniform(rng, (10.0, 35.0)),
        grey_share=uniform(rng, (0.2, 1.0)),
        emboli=tuple(_embolus(rng, ranges, other) for _ in range(count)),
    )
    return (shower,)


def _embolus(rng: Rng, ranges: LesionRanges, stage: Stage) -> Embolus:
    d_ratio, t2_ratio = _ratios(rng, ranges, stage)
    strength = uniform(rng, ranges.embolus_strength)
    return Embolus(
        place=a_place(rng),
        volume_ml=log_normal(rng, ranges.embolus_ln, ranges.embolus_ml),
        stretch=three(rng, 0.3),
        turn_deg=three(rng, 60.0),
        grey_pull=uniform(rng, (0.0, 2.0)),
        boxy=uniform(rng, (3.0, 6.0)) if ranges.style == "exam" else 2.0,
        edge_mm=uniform(rng, ranges.embolus_edge_mm),
        d_ratio=1.0 + strength * (d_ratio - 1.0),
        t2_ratio=1.0 + strength * (t2_ratio - 1.0),
    )


def _ratios(rng: Rng, ranges: LesionRanges, stage: Stage) -> Pair:
    return uniform(rng, getattr(ranges, f"{stage}_d")), uniform(rng, getattr(ranges, f"{stage}_t2"))
