"""Smooth fields, blurring and resampling of the generator: known numbers on small grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from strokeseg_training.generator.fields import (
    along,
    blur,
    centred_mm,
    per_patient,
    sample_at,
    smooth_field,
    white_noise,
)

CPU = torch.device("cpu")


def test_the_same_seed_gives_the_same_field_whoever_else_is_in_the_batch() -> None:
    alone = smooth_field([7], [12.0], (24, 20, 16), (2.0, 2.0, 2.0), CPU)
    together = smooth_field([3, 7], [30.0, 12.0], (24, 20, 16), (2.0, 2.0, 2.0), CPU)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], alone[0])


@pytest.mark.parametrize("fwhm_mm", [6.0, 16.0])
def test_a_field_is_as_smooth_as_asked(fwhm_mm: float) -> None:
    field = smooth_field(range(8), [fwhm_mm] * 8, (48, 48, 48), (2.0, 2.0, 2.0), CPU)
    assert field.std().item() == pytest.approx(1.0, abs=0.01)

    def correlation(mm: float) -> float:
        n = round(mm / 2)
        a, b = field[:, :, n:], field[:, :, : field.shape[2] - n]
        return float((a * b).mean())

    # Half the width apart values are alike, three widths apart they are not.
    assert correlation(fwhm_mm / 2) > 0.35
    assert abs(correlation(3 * fwhm_mm)) < 0.15


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_matrix_acts_along_its_axis_alone(axis: int) -> None:
    volume = torch.rand(2, 3, 4, 5, 6)
    size = volume.shape[2 + axis]
    reverse = torch.eye(size).flip(0)
    assert torch.equal(along(volume, reverse, axis), volume.flip(2 + axis))
    own = torch.stack([reverse, 2 * torch.eye(size)])
    result = along(volume, own, axis)
    assert torch.equal(result[0], volume[0].flip(1 + axis))
    assert torch.equal(result[1], 2 * volume[1])


def test_blur_keeps_constants_and_widens_a_point_to_the_asked_sigma() -> None:
    assert torch.allclose(blur(torch.ones(1, 1, 9, 8, 7), 3.0, (2.0, 2.0, 2.0)), torch.ones(1), atol=1e-6)
    point = torch.zeros(1, 1, 41, 41, 41)
    point[..., 20, 20, 20] = 1.0
    profile = blur(point, 4.0, (2.0, 2.0, 2.0)).sum((0, 1, 3, 4))
    place = torch.arange(41.0) - 20
    assert float(profile.sum()) == pytest.approx(1.0, abs=1e-5)
    # The tails beyond three sigma are cut: 1.97 instead of 2 voxels.
    assert float((profile * place**2).sum()) ** 0.5 == pytest.approx(2.0, abs=0.06)


def test_sampling_in_millimetres_finds_the_voxel_of_an_oblique_mirrored_volume() -> None:
    affine = np.array([[0.0, -2.0, 0.0, 30.0], [1.5, 0.0, 0.0, -10.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    volume = torch.rand(1, 6, 7, 8)
    index = np.array([2, 5, 3])
    world = affine[:3, :3] @ index + affine[:3, 3]
    points = torch.tensor(world, dtype=torch.float32).view(1, 3, 1, 1, 1)
    assert float(sample_at(volume, points, affine)) == pytest.approx(float(volume[0, 2, 5, 3]), abs=1e-5)
    assert float(sample_at(volume, points, affine, nearest=True)) == float(volume[0, 2, 5, 3])
    assert float(sample_at(volume, points + 1000.0, affine)) == 0.0


def test_places_are_counted_from_the_middle_of_the_grid() -> None:
    place = centred_mm((4, 5, 6), (2.0, 1.0, 3.0), CPU)
    assert place[:, 0, 0, 0].tolist() == [-3.0, -2.0, -7.5]
    assert place[:, -1, -1, -1].tolist() == [3.0, 2.0, 7.5]


def test_numbers_of_patients_multiply_their_own_volumes() -> None:
    assert (torch.ones(2, 1, 1, 3) * per_patient([2.0, 5.0], CPU))[:, 0, 0, 0].tolist() == [2.0, 5.0]


def test_white_noise_of_a_patient_does_not_depend_on_the_others() -> None:
    assert torch.equal(white_noise([1, 2], (3, 3), CPU)[1], white_noise([2], (3, 3), CPU)[0])
