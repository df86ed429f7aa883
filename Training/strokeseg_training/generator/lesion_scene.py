"""What is decided about the lesions of one patient, and the ranges it is decided from: plain numbers only.

Volumes in ml, lengths in mm, places in template mm or as quantiles 0-1 of the tissue that may be hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pair = tuple[float, float]
Triple = tuple[float, float, float]

Kind = Literal[
    "library",  # a real mask, deformed
    "territory",  # grown along a vessel
    "scatter",  # many small patches in a vessel's bed
    "wedge",  # from a deep point to the cortex
    "cortex",  # a piece of ribbon
    "lacune",  # a small ellipsoid in deep grey or white matter, or in the stem
    "metaballs",  # from here on the exam's own ways of drawing
    "walk",
    "branches",
    "cells",
]
Stage = Literal["hyperacute", "day", "days", "late", "faint", "chronic"]


@dataclass(frozen=True)
class AcuteLook:
    """What an acute infarct does to tissue.

    Args:
        d_ratio: D against healthy tissue in the core.
        t2_ratio: T2 against healthy tissue in the core.
        edge_mm: Width over which the label goes from a tenth to nine tenths.
        border_mm: Depth at which the tissue change is complete.
        border_strength: Share of the change at the label's border: experts draw generously.
        patch_mm: Size of weak patches.
        patch_share: Share of the lesion that is weak.
        patch_strength: Share of the change in weak patches.
        texture_sd: Standard deviation of ln D within the lesion.
        mismatch: 0-1, how far the T2 change ignores where D is low.
        cells: Patches are polygons of one strength each instead of smooth clouds (the exam's style).
        seed: Of the fields.
    """

    d_ratio: float
    t2_ratio: float
    edge_mm: float
    border_mm: float
    border_strength: float
    patch_mm: float
    patch_share: float
    patch_strength: float
    texture_sd: float
    mismatch: float
    cells: bool
    seed: int


@dataclass(frozen=True)
class ChronicLook:
    """What an old infarct has become.

    Args:
        edge_mm: Width over which the label goes from a tenth to nine tenths.
        cavity: Share of the tissue in the middle that is fluid now.
        cavity_volume: Share of the lesion's volume that is cavity; 0: a scar only.
        rim_mm: Thickness of the scar round the cavity.
        rim_t1: T1-weighted signal of the scar against healthy tissue.
        halo_mm: Reach of faint change beyond the label, in white matter.
        seed: Of the fields.
        strands: Share of the cavity that strands of scar cross.
        balls: The cavity is several balls that flow together instead of the lesion's depth (the exam's style).
    """

    edge_mm: float
    cavity: float
    cavity_volume: float
    rim_mm: float
    rim_t1: float
    halo_mm: float
    seed: int
    strands: float = 0.0
    balls: bool = False


@dataclass(frozen=True)
class LesionPart:
    """One infarct, with its own shape and age.

    Args:
        kind: How it is drawn.
        stage: Its age, for the reader; `look` holds what follows from it.
        territory: Key of `TERRITORIES`, "" for a library mask.
        side: 1 right, -1 left.
        volume_ml: Tissue that it covers; 0 for a library mask that keeps its own volume times `keep`.
        place: Quantiles of the tissue that may be hit: where a cortex, wedge, lacune or exam shape lies.
        span: Shares of the territory's line between which it grows.
        ragged: Weight of noise against distance.
        ragged_mm: Size of the noise's coarser parts.
        grey_pull: How far the shape keeps to grey matter.
        stretch: Logarithms of the scale along (x, y, z).
        turn_deg: Rotation about (x, y, z), library masks and lacunes.
        shift_mm: Displacement, library masks.
        warp_mm: Amplitude of the smooth displacement, library masks.
        mirror: The other half of the head, library masks.
        keep: Share of the library mask's volume that is used.
        library_set: Folder of the mask, "" for none.
        library_index: Its index there.
        seed: Of the shape's fields.
        look: What it does to the tissue.
    """

    kind: Kind
    stage: Stage
    territory: str
    side: int
    volume_ml: float
    place: Triple
    span: Pair
    ragged: float
    ragged_mm: float
    grey_pull: float
    stretch: Triple
    turn_deg: Triple
    shift_mm: Triple
    warp_mm: float
    mirror: bool
    keep: float
    library_set: str
    library_index: int
    seed: int
    look: AcuteLook | ChronicLook


@dataclass(frozen=True)
class Embolus:
    """One small infarct of a shower.

    Args:
        place: Quantiles of the tissue where emboli go.
        volume_ml: Of the ellipsoid.
        stretch: Logarithms of its half axes' ratios.
        turn_deg: Rotation about (x, y, z).
        grey_pull: Millimetres that white matter counts as further out.
        boxy: Exponent of the ellipsoid: 2 round, more is boxier (the exam's style).
        edge_mm: Width of its border.
        d_ratio: D against healthy tissue.
        t2_ratio: T2 against healthy tissue.
    """

    place: Triple
    volume_ml: float
    stretch: Triple
    turn_deg: Triple
    grey_pull: float
    boxy: float
    edge_mm: float
    d_ratio: float
    t2_ratio: float


@dataclass(frozen=True)
class Shower:
    """Where the emboli went: near the first part, or in a territory, or anywhere.

    Args:
        around: "lesion" (the first part; anywhere where there is none), "territory" or "anywhere".
        territory: Key of `TERRITORIES`.
        side: 1 right, -1 left, 0 both.
        spread_mm: Standard deviation of the distance.
        grey_share: 0-1, how far they prefer grey matter.
        emboli: The small infarcts.
    """

    around: Literal["lesion", "territory", "anywhere"]
    territory: str
    side: int
    spread_mm: float
    grey_share: float
    emboli: tuple[Embolus, ...]


@dataclass(frozen=True)
class Pull:
    """Shrinkage round an old infarct: what lies about `radius_mm` away comes up to `amount_mm` closer.

    Args:
        centre_mm: Template mm.
        radius_mm: Distance of the largest displacement.
        amount_mm: The largest displacement.
        open_mm: By how much the ventricle's wall has receded on this side.
    """

    centre_mm: Triple
    radius_mm: float
    amount_mm: float
    open_mm: float = 0.0


@dataclass(frozen=True)
class LesionScene:
    """All lesions of one patient. No part and no embolus: a healthy brain.

    Args:
        style: "training", or "exam" for shapes and patches drawn in other ways.
        parts: Infarcts.
        showers: Groups of emboli.
        pulls: Shrinkage, chronic task only; used by the anatomy.
    """

    style: Literal["training", "exam"]
    parts: tuple[LesionPart, ...]
    showers: tuple[Shower, ...]
    pulls: tuple[Pull, ...] = ()


@dataclass(frozen=True)
class LesionRanges:
    """What lesions are drawn from; (low, high) pairs are uniform, `*_ln` pairs mean and standard deviation of ln.

    Shares of patterns and vessels: DeepISLES' test set (Nat Commun 2025), stem and watershed raised so that the network
    meets enough of them. Stages after Lansberg 2001 (D) and Eastwood 2003 (T2).
    """

    style: Literal["training", "exam"] = "training"
    empty_share: float = 0.12
    library_share: float = 0.6
    acute_set: str = "soop"
    chronic_set: str = "lesymap"

    single_share: float = 0.36
    scattered_share: float = 0.34  # the rest: an infarct and emboli
    bilateral_share: float = 0.08
    second_infarct_share: float = 0.15
    mca_share: float = 0.56
    pca_share: float = 0.13
    aca_share: float = 0.06
    cerebellum_share: float = 0.12
    stem_share: float = 0.05
    watershed_share: float = 0.08
    kind_shares: tuple[float, ...] = (0.30, 0.22, 0.10, 0.23, 0.15)  # territory, scatter, wedge, cortex, lacune
    small_bias: float = 0.08
    keep_whole_share: float = 0.55
    keep: Pair = (0.04, 0.8)
    mirror_share: float = 0.5
    warp_mm: Pair = (0.0, 5.0)
    shift_mm: float = 5.0
    turn_deg: float = 8.0
    stretch: float = 0.12
    fragment: Pair = (0.0, 1.1)
    fragment_mm: Pair = (5.0, 14.0)
    grey_pull: Pair = (0.0, 1.4)
    territory_ln: Pair = (1.6, 1.4)
    scatter_ln: Pair = (0.9, 1.1)
    wedge_ln: Pair = (0.9, 1.1)
    cortex_ln: Pair = (-0.7, 1.1)
    lacune_ln: Pair = (-1.2, 0.7)
    largest_ml: float = 250.0

    # Masks in the template's space have lost the smallest fragments of real patients: emboli bring them back.
    emboli: tuple[int, int] = (0, 32)
    emboli_both_sides_share: float = 0.3  # from the heart
    embolus_ln: Pair = (-2.5, 1.0)
    embolus_ml: Pair = (0.02, 1.5)
    embolus_edge_mm: Pair = (0.8, 2.5)
    embolus_strength: Pair = (0.7, 1.25)

    # Ages: shares, D and T2 of the core. Eastwood's ratios are of the signal at b = 0: at an echo time near T2 a
    # ratio of T2 of 1.95 gives 1.6.
    hyperacute_share: float = 0.11
    day_share: float = 0.34
    days_share: float = 0.31
    late_share: float = 0.09  # the rest is faint
    hyperacute_d: Pair = (0.48, 0.85)
    hyperacute_t2: Pair = (0.95, 1.10)
    day_d: Pair = (0.40, 0.68)
    day_t2: Pair = (1.0, 1.4)
    days_d: Pair = (0.42, 0.80)
    days_t2: Pair = (1.2, 1.95)
    late_d: Pair = (0.90, 1.10)
    late_t2: Pair = (1.2, 1.6)
    faint_d: Pair = (0.72, 0.95)  # DWI × 1.2-1.8 at ADC 0.9-1.1 was what the pilot missed
    faint_t2: Pair = (1.1, 1.6)
    several_ages_share: float = 0.3
    edge_mm: Pair = (1.0, 3.0)
    border_mm: Pair = (0.3, 3.5)
    border_strength: Pair = (0.45, 1.0)
    patch_mm: Pair = (5.0, 18.0)
    patch_share: Pair = (0.0, 0.35)
    patch_strength: Pair = (0.25, 0.8)
    texture_sd: Pair = (0.08, 0.16)
    mismatch: Pair = (0.0, 0.8)

    # Chronic T1: volume and components of ATLAS R3.0.
    chronic_ln: Pair = (1.73, 2.10)
    chronic_ml: Pair = (0.02, 400.0)
    chronic_satellites: float = 0.9  # mean number of further small scars
    cavity: Pair = (0.55, 1.0)
    cavity_volume: Pair = (0.2, 0.95)
    rim_mm: Pair = (1.0, 4.0)
    rim_t1: Pair = (0.55, 0.88)
    halo_mm: Pair = (0.0, 9.0)
    strands: Pair = (0.0, 0.5)
    pull_mm: Pair = (0.0, 8.0)
    open_mm: Pair = (0.0, 7.0)
