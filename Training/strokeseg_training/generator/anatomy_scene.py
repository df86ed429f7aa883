"""What is drawn about one brain: size, pose, shape, folding and age. Plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokeseg_training.generator.anatomy_spaces import Cyst, Four, draw_cysts

Range = tuple[float, float]


@dataclass(frozen=True)
class AnatomyRanges:
    """Where the numbers of `AnatomyScene` come from; lengths in mm of the patient.

    The template holds 1883 ml; adults' brains 1150-1450 ml mostly, with fluid for a quarter to a third of it in stroke
    patients and about an eighth in the young.
    """

    size_mean: float = 0.885
    size_sd: float = 0.032
    size: Range = (0.80, 0.98)
    axis_sd: float = 0.025
    rotation_sd_deg: tuple[float, float, float] = (6.0, 3.0, 3.5)
    shift_mm: float = 3.0
    # Heads' overall shape, lobes, and single gyri: largest displacement and wavelength.
    head_bend_mm: Range = (1.0, 10.0)
    head_wave_mm: Range = (80.0, 130.0)
    lobe_bend_mm: Range = (0.5, 5.0)
    lobe_wave_mm: Range = (36.0, 60.0)
    gyrus_bend_mm: Range = (1.0, 4.0)
    gyrus_wave_mm: Range = (18.0, 28.0)
    # Right frontal and left occipital lobe protrude by some mm in most people (LeMay 1976).
    petalia_mm: Range = (0.0, 5.0)
    mirrored: float = 0.5
    # 0 is a young adult's brain, 1 the most shrunken of the old.
    age: Range = (0.0, 1.0)
    sulcus_mm: tuple[float, float] = (0.15, 0.83)
    rim_mm: tuple[float, float] = (0.1, 2.2)
    cistern_mm: tuple[float, float] = (-0.4, 0.9)
    sylvian: tuple[float, float] = (1.0, 2.2)
    ventricle_push_mm: tuple[float, float] = (0.0, 5.5)
    ventricle_mm: tuple[float, float] = (0.0, 1.4)
    cortex_mm: Range = (1.2, 2.0)
    whiteness: Range = (0.9, 2.6)
    age_spread: float = 0.3
    age_lopsided_sd: float = 0.14
    lopsided_share: float = 0.35
    patchiness: Range = (0.1, 0.5)
    patch_wave_mm: Range = (16.0, 50.0)
    folding: Range = (0.2, 0.8)
    folding_wave_mm: Range = (5.0, 12.0)
    new_sulci_mm: Range = (0.0, 0.6)
    new_sulci_wave_mm: Range = (26.0, 44.0)
    new_sulci_depth_mm: Range = (4.0, 10.0)
    contrast: Range = (1.0, 2.2)
    edge_mm: Range = (0.05, 0.25)
    # Half widths of the ventricles' horns from young to old; (0, 0) draws none.
    temporal_horn_mm: tuple[float, float] = (0.0, 0.0)
    occipital_horn_mm: tuple[float, float] = (0.0, 0.0)
    cyst_share: float = 0.0
    cyst_mm: Range = (8.0, 22.0)


@dataclass(frozen=True)
class AnatomyScene:
    """One brain; lengths in mm of the patient, angles in degrees.

    Args:
        size, axes: Scale of the template, overall and along (x, y, z).
        rotation_deg: About x, then y, then z.
        shift_mm: The brain's middle from the grid's.
        bend_mm, bend_wave_mm: Largest displacement and wavelength of the three deformations: head, lobes, gyri.
        petalia_mm: Torque of the hemispheres; negative when the anatomy is mirrored.
        sulcus_mm: Half the width of an average sulcus.
        rim_mm: Fluid between brain and dura.
        cistern_mm: Widening of the basal cisterns.
        sylvian: Factor on the lateral fissure's width.
        ventricle_push_mm, ventricle_mm: Widening of the ventricles by pushing tissue away, and at its cost.
        lopsided: Relative excess of sulcal and ventricular fluid on the right side.
        patchiness, patch_wave_mm: Unevenness of the sulci's width (log SD) over this distance.
        cortex_mm: Least thickness of the cortex.
        whiteness: Log odds added in favour of white matter: the average's cortex is too thick.
        folding, folding_wave_mm: Log-odds noise between grey and white matter that gives each gyrus its own shape.
        new_sulci_mm, new_sulci_wave_mm, new_sulci_depth_mm: Half width, distance and depth of added shallow sulci.
        contrast: Factor on the log odds of white against grey matter; the average brain is blurred.
        edge_mm: Blur of borders beyond that of the voxel.
        seeds: Of the fields: head, lobes, gyri, patches, folding, new sulci.
        horns_mm: Half widths of the temporal horns (right, left) and the occipital ones (right, left); 0: not drawn.
        cysts: Of the arachnoid.
    """

    size: float
    axes: tuple[float, float, float]
    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    bend_mm: tuple[float, float, float]
    bend_wave_mm: tuple[float, float, float]
    petalia_mm: float
    age: float
    sulcus_mm: float
    rim_mm: float
    cistern_mm: float
    sylvian: float
    ventricle_push_mm: float
    ventricle_mm: float
    lopsided: float
    patchiness: float
    patch_wave_mm: float
    cortex_mm: float
    whiteness: float
    folding: float
    folding_wave_mm: float
    new_sulci_mm: float
    new_sulci_wave_mm: float
    new_sulci_depth_mm: float
    contrast: float
    edge_mm: float
    seeds: tuple[int, int, int, int, int, int]
    horns_mm: Four = (0.0, 0.0, 0.0, 0.0)
    cysts: tuple[Cyst, ...] = ()


def draw_anatomy(rng: np.random.Generator, ranges: AnatomyRanges) -> AnatomyScene:
    """Decides about one brain. Everything that ages follows one age, each with its own spread."""

    def uniform(low_high: Range) -> float:
        return float(rng.uniform(*low_high))

    def normal(sd: float, limit: float) -> float:
        return float(np.clip(rng.normal(0.0, sd), -limit, limit)) if sd > 0 else 0.0

    def aged(low_high: Range) -> float:
        part = float(np.clip(age + normal(ranges.age_spread, 2 * ranges.age_spread), 0.0, 1.0))
        return low_high[0] + part * (low_high[1] - low_high[0])

    age = uniform(ranges.age)
    size = float(np.clip(rng.normal(ranges.size_mean, ranges.size_sd), *ranges.size))
    axes = [float(np.exp(normal(ranges.axis_sd, 2 * ranges.axis_sd))) for _ in range(3)]
    turn = [normal(sd, 2.5 * sd) for sd in ranges.rotation_sd_deg]
    shift = [uniform((-ranges.shift_mm, ranges.shift_mm)) for _ in range(3)]
    lopsided = normal(ranges.age_lopsided_sd, 0.22) * (2.0 if rng.random() < ranges.lopsided_share else 0.4)
    mirrored = bool(rng.random() < ranges.mirrored)
    petalia = uniform(ranges.petalia_mm) * (-1.0 if mirrored else 1.0)
    seeds = [int(s) for s in rng.integers(0, 2**31, 6)]
    return AnatomyScene(
        size=size,
        axes=(axes[0], axes[1], axes[2]),
        rotation_deg=(turn[0], turn[1], turn[2]),
        shift_mm=(shift[0], shift[1], shift[2]),
        bend_mm=(uniform(ranges.head_bend_mm), uniform(ranges.lobe_bend_mm), uniform(ranges.gyrus_bend_mm)),
        bend_wave_mm=(uniform(ranges.head_wave_mm), uniform(ranges.lobe_wave_mm), uniform(ranges.gyrus_wave_mm)),
        petalia_mm=petalia,
        age=age,
        sulcus_mm=aged(ranges.sulcus_mm),
        rim_mm=aged(ranges.rim_mm),
        cistern_mm=aged(ranges.cistern_mm),
        sylvian=aged(ranges.sylvian),
        ventricle_push_mm=aged(ranges.ventricle_push_mm),
        ventricle_mm=aged(ranges.ventricle_mm),
        lopsided=lopsided,
        patchiness=uniform(ranges.patchiness),
        patch_wave_mm=uniform(ranges.patch_wave_mm),
        cortex_mm=uniform(ranges.cortex_mm),
        whiteness=uniform(ranges.whiteness),
        folding=uniform(ranges.folding),
        folding_wave_mm=uniform(ranges.folding_wave_mm),
        new_sulci_mm=uniform(ranges.new_sulci_mm),
        new_sulci_wave_mm=uniform(ranges.new_sulci_wave_mm),
        new_sulci_depth_mm=uniform(ranges.new_sulci_depth_mm),
        contrast=uniform(ranges.contrast),
        edge_mm=uniform(ranges.edge_mm),
        seeds=(seeds[0], seeds[1], seeds[2], seeds[3], seeds[4], seeds[5]),
        horns_mm=_horns(rng, ranges, age),
        cysts=draw_cysts(rng, ranges.cyst_share, ranges.cyst_mm),
    )


def _horns(rng: np.random.Generator, ranges: AnatomyRanges, age: float) -> Four:
    """Widths that follow the age, each side and horn with its own deviation."""
    spread = np.exp(rng.normal(0.0, 0.35, 4))
    parts: list[float] = []
    for low, high in (ranges.temporal_horn_mm, ranges.occipital_horn_mm):
        parts += [(low + min(age, 1.0) * (high - low)) * float(s) for s in spread[len(parts) : len(parts) + 2]]
    return (parts[0], parts[1], parts[2], parts[3])
