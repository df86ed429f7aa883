"""Channels in training against those of the engine, on the same numbers."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from strokeseg.errors import InputError  # noqa: E402
from strokeseg.prepare.channels import CHANNELS as ENGINE  # noqa: E402
from strokeseg.prepare.channels import ModelSpace  # noqa: E402
from strokeseg.symmetry import Midplane  # noqa: E402
from strokeseg.volume import Grid  # noqa: E402
from strokeseg_training.channels import CHANNELS, make_channels  # noqa: E402
from strokeseg_training.sample import Sample  # noqa: E402

SPACING = (2.0, 2.5, 3.0)
# Tilted by some degrees, 3 mm off the middle of the grid.
TURN = np.array([math.cos(0.1), math.sin(0.1) * 0.8, math.sin(0.1) * 0.6])
OFFSET = 3.0


def sample(shape=(33, 30, 21), patients=2):
    rng = np.random.default_rng(5)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    brains, dwi, adc, b0 = [], [], [], []
    for patient in range(patients):
        # The brain touches the end of the grid at its front: what is beyond counts as no brain.
        radius = np.sqrt((axes[0] / 0.85) ** 2 + ((axes[1] - 0.2) / 0.9) ** 2 + (axes[2] / (0.9 - 0.1 * patient)) ** 2)
        brains.append(radius < 1)
        adc.append(0.8 + 0.3 * axes[0] + 1.2 * (radius < 0.3) + 0.1 * rng.standard_normal(shape))
        dwi.append(300 * (1 + 0.5 * axes[0] * axes[1]) + 20 * rng.standard_normal(shape) + 10 * patient)
        b0.append(dwi[-1] * 2.5)
    plane = torch.tensor([[*TURN, OFFSET]] * patients, dtype=torch.float32)
    images = {
        r: torch.tensor(np.stack(v), dtype=torch.float32)
        for r, v in {"dwi": dwi, "adc": adc, "b0": b0, "t1": b0}.items()
    }
    brain = torch.tensor(np.stack(brains))
    zeros = torch.zeros(brain.shape)
    return Sample(images, brain, zeros, zeros.to(torch.uint8), plane, SPACING, tuple(range(patients)))


def engine_space(given, patient):
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -(np.array(given.shape) - 1) / 2 * SPACING
    plane = Midplane(tuple(float(v) for v in TURN), OFFSET, 1.0, "given")
    images = {r: v[patient].numpy() for r, v in given.images.items()}
    return ModelSpace(Grid(given.shape, affine), images, given.brain[patient].numpy(), plane)


def test_channels_are_those_of_the_engine_but_for_the_costly_one():
    assert set(ENGINE) - set(CHANNELS) == {"edge_distance_mm"}
    assert set(CHANNELS) <= set(ENGINE)


@pytest.mark.parametrize("name", sorted(set(CHANNELS) & set(ENGINE)))
def test_a_channel_is_the_engines(name):
    given = sample()
    ours = make_channels(given, [name])[:, 0].numpy()
    for patient in range(2):
        theirs = engine_space(given, patient).channel(name)
        assert theirs.any()
        np.testing.assert_allclose(ours[patient], theirs, atol=1e-3)


def test_the_mirror_channel_has_something_to_compare():
    channel = make_channels(sample(), ["adc_mirror_log_ratio"])
    assert float(channel.abs().max()) > 0.3
    assert float((channel != 0).float().sum() / sample().brain.sum()) > 0.8


def test_channels_come_in_the_order_of_their_names_and_are_0_outside_the_brain():
    given = sample()
    names = ["height", "dwi_ratio", "adc", "adc_mirror_log_ratio"]
    both = make_channels(given, names)
    assert tuple(both.shape) == (2, 4, *given.shape)
    assert both.dtype == torch.float32
    for place, name in enumerate(names):
        torch.testing.assert_close(both[:, place], make_channels(given, [name])[:, 0])
    assert not both.movedim(1, -1)[~given.brain].any()


def test_patients_of_a_batch_do_not_see_each_other():
    given = sample()
    one = Sample(
        {r: v[1:] for r, v in given.images.items()},
        given.brain[1:], given.lesion[1:], given.tissue[1:], given.midplane[1:], SPACING, (1,),
    )  # fmt: skip
    names = ["dwi_ratio", "dwi_mirror_log_ratio", "height"]
    torch.testing.assert_close(make_channels(given, names)[1:], make_channels(one, names))


def test_left_and_right_exchanged_exchange_the_channels():
    given = sample()
    n = given.midplane
    # p to (-x, y, z) turns the normal's x; towards the right again, all its signs and the offset's change.
    plane = torch.stack([n[:, 0], -n[:, 1], -n[:, 2], -n[:, 3]], dim=1)
    other = Sample(
        {r: v.flip(1) for r, v in given.images.items()},
        given.brain.flip(1), given.lesion, given.tissue, plane, SPACING, given.seeds,
    )  # fmt: skip
    names = ["dwi_ratio", "dwi_mirror_log_ratio", "adc_mirror_log_ratio"]
    torch.testing.assert_close(make_channels(other, names), make_channels(given, names).flip(2), atol=2e-4, rtol=0)


def test_the_z_score_has_mean_0_and_deviation_1_in_the_brain_and_ends_at_4():
    image = torch.zeros(1, 1, 1, 7)
    image[0, 0, 0] = torch.tensor([9.0, 1, 1, 3, 3, 9.0, 9.0])
    brain = torch.tensor([0, 1, 1, 1, 1, 0, 0], dtype=torch.bool).view(1, 1, 1, 7)
    zeros = torch.zeros(1, 1, 1, 7)
    t1 = Sample({"t1": image}, brain, zeros, zeros.byte(), torch.tensor([[1.0, 0, 0, 0]]), (1.5,) * 3, (0,))
    assert make_channels(t1, ["t1_zscore"]).flatten().tolist() == [0, -1, -1, 1, 1, 0, 0]
    # A hundred voxels of 0 and one of 1: 0.99 / sqrt(0.0099) = 9.95 deviations.
    image, brain = torch.zeros(1, 1, 1, 101), torch.ones(1, 1, 1, 101, dtype=torch.bool)
    image[..., 50] = 1
    zeros = torch.zeros(image.shape)
    t1 = Sample({"t1": image}, brain, zeros, zeros.byte(), torch.tensor([[1.0, 0, 0, 0]]), (1.5,) * 3, (0,))
    assert float(make_channels(t1, ["t1_zscore"])[..., 50]) == 4.0


def test_a_patient_without_brain_gives_zeros():
    given = sample()
    empty = Sample(
        given.images, torch.zeros_like(given.brain), given.lesion, given.tissue, given.midplane, SPACING, given.seeds
    )
    names = [n for n in CHANNELS if n != "t1_zscore"]
    assert not make_channels(empty, names).any()


def test_an_unknown_channel_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="'dwi_rato'") as caught:
        make_channels(sample(), ["dwi_rato"])
    assert "'dwi_ratio'" in caught.value.next_step


def test_an_image_that_is_not_there_is_said():
    given = sample()
    del given.images["t1"]
    with pytest.raises(InputError, match="'t1'"):
        make_channels(given, ["t1_zscore"])
