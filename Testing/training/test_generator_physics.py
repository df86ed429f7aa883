"""Signals of simple phantoms have the values that the equations give by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from strokeseg_training.generator._depth import signed_depth_mm
from strokeseg_training.generator._spots import Spot, spot_maps
from strokeseg_training.generator._t1_contrast import T1Sequence, tissue_signal
from strokeseg_training.generator.physics import (
    PhysicsRanges,
    PhysicsScene,
    diffusion_signals,
    draw_physics,
    t1_signal,
)

SHAPE = (20, 24, 20)
GREY, WHITE, FLUID = range(3)


def phantom(tissue: int = GREY, **regions: torch.Tensor) -> Any:
    """A head that is one tissue everywhere, with template coordinates in mm from its middle."""
    fractions = torch.zeros(1, 3, *SHAPE)
    fractions[:, tissue] = 1.0
    axes = [(torch.arange(n) - (n - 1) / 2) * 2.0 for n in SHAPE]
    none = torch.zeros(1, *SHAPE)
    return SimpleNamespace(
        fractions=fractions,
        brain=torch.ones(1, *SHAPE),
        regions={"cerebellum": none, "brain_stem": none, "deep_grey": none} | regions,
        mni_mm=torch.stack(torch.meshgrid(*axes, indexing="ij"))[None],
        surface_mm=torch.full((1, *SHAPE), 30.0),
        shape=SHAPE,
        spacing_mm=(2.0, 2.0, 2.0),
        device=torch.device("cpu"),
    )


def disease(**maps: float) -> Any:
    one, zero = torch.ones(1, *SHAPE), torch.zeros(1, *SHAPE)
    return SimpleNamespace(
        d_factor=one * maps.get("d_factor", 1.0),
        t2_factor=one * maps.get("t2_factor", 1.0),
        t1_factor=one * maps.get("t1_factor", 1.0),
        cavity=zero + maps.get("cavity", 0.0),
        infarct=zero,
    )


def plain_scene(**changes: Any) -> PhysicsScene:
    """A scene in which tissue is uniform and the coil sees everything alike."""
    scene = draw_physics(np.random.default_rng([7, 4]), PhysicsRanges())
    smooth = replace(scene.fine_texture, sd_signal=0.0, sd_d=0.0)
    scene = replace(
        scene,
        b_value=1.0,
        te_ms=80.0,
        tr_ms=5000.0,
        t1_ms=(1820.0, 1080.0, 4000.0),
        t2_ms=(95.0, 70.0, 1000.0),
        proton_density=(0.82, 0.70, 1.0),
        diffusivity=(0.9, 0.7, 3.0),
        fine_texture=smooth,
        wide_texture=smooth,
        deep_grey_signal=1.0,
        deep_grey_d=1.0,
        hindbrain_asymmetry=0.0,
        spots=tuple(replace(s, log_signal=0.0, log_d=0.0) for s in scene.spots),
        tracts=tuple(replace(s, log_signal=0.0, log_d=0.0) for s in scene.tracts),
        white_contrast=0.0,
        single_direction=0.0,
        coil=replace(scene.coil, tilt=0.0, radial=0.0, waves=0.0),
    )
    return replace(scene, **changes)


def adc(scene: PhysicsScene, head: Any, sick: Any | None = None) -> torch.Tensor:
    s0, sb = diffusion_signals([scene], head, sick or disease(), disease())
    return torch.log(s0 / sb)[0] / scene.b_value


@pytest.mark.parametrize(("tissue", "diffusivity"), [(GREY, 0.9), (WHITE, 0.7), (FLUID, 3.0)])
@pytest.mark.parametrize("b_value", [0.8, 1.0, 1.2])
def test_uniform_tissue_without_noise_has_exactly_its_diffusivity_as_adc(tissue, diffusivity, b_value):
    values = adc(plain_scene(b_value=b_value), phantom(tissue))
    assert values.min().item() == pytest.approx(diffusivity, abs=1e-5)
    assert values.max().item() == pytest.approx(diffusivity, abs=1e-5)


def test_signal_follows_the_spin_echo_equation():
    s0, sb = diffusion_signals([plain_scene()], phantom(WHITE), disease(), disease())
    expected = 0.70 * (1 - math.exp(-5000 / 1080)) * math.exp(-80 / 70)
    assert s0.mean().item() == pytest.approx(expected, rel=1e-4)
    assert sb.mean().item() == pytest.approx(expected * math.exp(-0.7), rel=1e-4)


def test_infarct_lowers_the_adc_and_prolongs_t2_as_asked():
    scene, head = plain_scene(), phantom(GREY)
    healthy, _ = diffusion_signals([scene], head, disease(), disease())
    s0, sb = diffusion_signals([scene], head, disease(d_factor=0.5, t2_factor=1.25), disease())
    assert torch.log(s0 / sb).mean().item() == pytest.approx(0.45, abs=1e-5)
    # T2 95 ms becomes 118.75 ms: exp(-80 / 118.75) / exp(-80 / 95).
    assert (s0 / healthy).mean().item() == pytest.approx(math.exp(80 / 95 - 80 / 118.75), rel=1e-5)


def test_the_stronger_of_two_diseases_stands_in_a_voxel():
    s0, sb = diffusion_signals([plain_scene()], phantom(GREY), disease(d_factor=0.5), disease(d_factor=1.3))
    assert torch.log(s0 / sb).mean().item() == pytest.approx(0.45, abs=1e-5)


def test_a_full_cavity_is_fluid_whatever_the_tissue_was():
    assert adc(plain_scene(), phantom(WHITE), disease(cavity=1.0)).mean().item() == pytest.approx(3.0, abs=1e-4)


def test_half_grey_half_fluid_mixes_signals_and_not_diffusivities():
    head = phantom(GREY)
    head.fractions[:, GREY] = head.fractions[:, FLUID] = 0.5
    grey = 0.82 * (1 - math.exp(-5000 / 1820)) * math.exp(-80 / 95)
    fluid = (1 - math.exp(-5000 / 4000)) * math.exp(-80 / 1000)
    expected = math.log((grey + fluid) / (grey * math.exp(-0.9) + fluid * math.exp(-3.0)))
    assert adc(plain_scene(), head).mean().item() == pytest.approx(expected, abs=1e-4)
    assert expected < 0.5 * (0.9 + 3.0)


@pytest.mark.parametrize("b_value", [0.8, 1.0])
def test_cerebellum_is_brighter_by_the_factor_drawn_at_the_diffusivity_drawn(b_value):
    region = torch.zeros(1, *SHAPE)
    region[:, :, :8] = 1.0
    scene = plain_scene(b_value=b_value, cerebellum_dwi=1.3, cerebellum_d=0.9, diffusivity=(0.8, 0.7, 3.0))
    s0, sb = diffusion_signals([scene], phantom(GREY, cerebellum=region), disease(), disease())
    assert (sb[0, 5, 3, 5] / sb[0, 5, 20, 5]).item() == pytest.approx(1.3, rel=1e-3)
    assert (torch.log(s0 / sb)[0, 5, 3, 5] / b_value).item() == pytest.approx(0.72, abs=1e-3)


def test_coil_sensitivity_shades_both_images_and_cancels_in_the_adc():
    scene = plain_scene()
    shaded = replace(scene, coil=replace(scene.coil, tilt=0.2, radial=0.2, waves=0.05))
    s0, _ = diffusion_signals([shaded], phantom(GREY), disease(), disease())
    assert (s0.std() / s0.mean()).item() > 0.02
    assert adc(shaded, phantom(GREY)).numpy() == pytest.approx(0.9, abs=1e-4)


def test_a_tract_is_brighter_at_nearly_the_same_adc():
    scene = plain_scene()
    tracts = (Spot((0.0, 0.0, 0.0), (6.0, 6.0, 6.0), math.log(1.3), 0.0), *scene.tracts[1:])
    head = phantom(WHITE)
    _, plain = diffusion_signals([scene], head, disease(), disease())
    s0, sb = diffusion_signals([replace(scene, tracts=tracts)], head, disease(), disease())
    assert (sb / plain).max().item() == pytest.approx(1.3, abs=0.02)
    assert torch.log(s0 / sb).max().item() == pytest.approx(0.7, abs=1e-3)


def test_one_gradient_direction_changes_the_adc_of_white_matter_only():
    scene = plain_scene(single_direction=0.5)
    assert adc(scene, phantom(WHITE)).std().item() > 0.1
    assert adc(scene, phantom(GREY)).std().item() < 1e-4


def test_spots_have_their_height_at_their_middle_and_the_gaussian_beside_it():
    spot = Spot((10.0, -4.0, 6.0), (3.0, 5.0, 4.0), 0.4, -0.2)
    places = torch.tensor([[10.0, 13.0, 10.0], [-4.0, -4.0, -9.0], [6.0, 6.0, 6.0]]).view(1, 3, 3, 1, 1)
    maps = spot_maps(places, [[spot]])[0, :, :, 0, 0]
    assert maps[0].tolist() == pytest.approx([0.4, 0.4 * math.exp(-0.5), 0.4 * math.exp(-0.5)], abs=1e-4)
    assert maps[1].tolist() == pytest.approx([-0.2, -0.2 * math.exp(-0.5), -0.2 * math.exp(-0.5)], abs=1e-4)


def test_depth_under_the_surface_of_a_ball_is_its_radius_minus_the_distance():
    axes = [(torch.arange(56) - 27.5) * 2.0] * 3
    expected = 40.0 - torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    ball = (expected / 2.0 + 0.5).clamp(0, 1)[None]
    error = (signed_depth_mm(ball, (2.0, 2.0, 2.0))[0] - expected).abs()
    assert error[expected.abs() < 2.0].max().item() < 0.5
    # A blur of 8 mm shifts the surface of a ball inwards by 64 mm² / 40 mm.
    assert error[expected.abs() < 12.0].max().item() < 2.5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # PD (1 - exp(-500 / T1)); PD |1 - 1.5 exp(-1000 / T1)|; PD sin 30° (1 - E) / (1 - E cos 30°), E = exp(-20 / T1)
        ("spin-echo", (0.2505, 0.3162, 0.1175)),
        ("inversion", (0.2339, 0.3844, 0.1682)),
        ("spoiled", (0.0406, 0.0538, 0.0180)),
    ],
)
def test_t1_weighted_sequences_follow_their_equations(kind, expected):
    sequence = T1Sequence(
        kind=kind,
        tr_ms=20.0 if kind == "spoiled" else 500.0,
        ti_ms=1000.0,
        flip_degrees=30.0,
        inversion=0.5,
        t1_ms=(1331.0, 832.0, 4000.0),
        proton_density=(0.80, 0.70, 1.0),
        deep_grey=0.0,
        texture=0.0,
        seed=1,
    )
    assert tissue_signal(sequence) == pytest.approx(expected, abs=2e-4)


def test_t1_image_has_white_matter_at_one_and_scars_darker_by_their_factor():
    scene = plain_scene()
    scene = replace(scene, t1=replace(scene.t1, texture=0.0))
    assert t1_signal([scene], phantom(WHITE), disease(), disease()).mean().item() == pytest.approx(1.0, abs=1e-4)
    scar = t1_signal([scene], phantom(WHITE), disease(t1_factor=0.7), disease())
    assert scar.mean().item() == pytest.approx(0.7, abs=1e-4)


def test_every_drawn_t1_sequence_orders_white_grey_and_fluid():
    for seed in range(60):
        grey, white, fluid = tissue_signal(draw_physics(np.random.default_rng([seed, 4]), PhysicsRanges()).t1)
        assert 0.4 < grey / white < 0.95
        assert fluid < grey


def test_the_same_seed_draws_the_same_scene_of_plain_numbers_and_the_same_signals():
    first, second = (draw_physics(np.random.default_rng([3, 4]), PhysicsRanges()) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(asdict(first)))["b_value"] == first.b_value
    one = diffusion_signals([first], phantom(), disease(), disease())
    two = diffusion_signals([second], phantom(), disease(), disease())
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_patients_of_a_batch_do_not_influence_each_other():
    scenes = [draw_physics(np.random.default_rng([s, 4]), PhysicsRanges()) for s in (1, 2)]
    alone = diffusion_signals(scenes[1:], phantom(), disease(), disease())[1]
    head = phantom()
    for name in ("fractions", "brain", "mni_mm", "surface_mm"):
        setattr(head, name, torch.cat([getattr(head, name)] * 2))
    head.regions = {name: torch.cat([m, m]) for name, m in head.regions.items()}
    both = SimpleNamespace(**{n: torch.cat([m, m]) for n, m in vars(disease()).items()})
    together = diffusion_signals(scenes, head, both, both)[1]
    assert together[1].numpy() == pytest.approx(alone[0].numpy(), rel=1e-4)
