"""Varied samples: the same by the same number, unchanged by ranges of nothing, consistent, and refused when damaged."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="augmentation needs torch, which is not installed")
pydantic = pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")

from torch.utils.data import DataLoader  # noqa: E402

from strokeseg.errors import InputError  # noqa: E402
from strokeseg.models.channels import CHANNEL_ROLES  # noqa: E402
from strokeseg_training.augment import Augmenter, Example, augment_sample  # noqa: E402
from strokeseg_training.augment.computed import FLIPPED, MASKS  # noqa: E402
from strokeseg_training.channels import CHANNELS, make_channels  # noqa: E402
from strokeseg_training.fit.workers import worker_context  # noqa: E402
from strokeseg_training.recipe_augment import Augmentation  # noqa: E402
from strokeseg_training.recipe_errors import not_valid  # noqa: E402
from strokeseg_training.sample import Sample  # noqa: E402

TRIO = {"flips": {"x": 0.5}, "rotation": {}, "scale": {}, "elastic": {}, "gamma": {}, "brightness": {}}
MSCS = {"flips": {"x": 0.5, "y": 0.5}, "gain": {"p": 0.5}, "noise": {"p": 0.5}, "clip": [0, 1]}
ATTENTION = {
    "flips": {"y": 0.5, "z": 0.5},
    "gain": {"p": 0.3, "per_channel": True},
    "blur": {"p": 0.25},
    "noise": {"p": 0.3, "sd": [0.02, 0.02]},
}
SYSTEMS = {"trio": TRIO, "mscs": MSCS, "attention": ATTENTION}
NOTHING = {
    "rotation": {"degrees": [0, 0]}, "scale": {"factor": [1, 1]}, "elastic": {"alpha": [0, 0]},
    "gain": {"factor": [1, 1]}, "gamma": {"power": [1, 1]}, "brightness": {"shift": [0, 0]}, "blur": {"sigma": [0, 0]},
    "noise": {"sd": [0, 0]}, "clip": [-1, 1],
}  # fmt: skip
NEVER = {kind: {"p": 0} for kind in NOTHING if kind != "clip"}


def augmenter(settings, seed=0):
    return Augmenter(Augmentation.model_validate(settings), seed)


def example(shape=(20, 18, 1), channels=("dwi", "adc"), **more):
    drawn = torch.Generator().manual_seed(1)
    images = torch.rand(len(channels), *shape, generator=drawn)
    label = torch.zeros(shape, dtype=torch.uint8)
    label[5:10, 6:12] = 1
    return Example("patient 7", channels, images, {"label": label, **more})


def same(one, other):
    pairs = [(one.images, other.images), *((v, other.maps[k]) for k, v in one.maps.items())]
    return all(torch.equal(a, b) for a, b in pairs)


# --- what changes nothing


@pytest.mark.parametrize("shape", [(20, 18, 1), (12, 11, 10)])
@pytest.mark.parametrize("settings", [{}, NOTHING, NEVER], ids=["none", "ranges", "chances"])
def test_ranges_of_nothing_change_nothing_bit_for_bit(settings, shape):
    before = example(shape)
    images = before.images.clone()
    after = augmenter(settings)(before, 3)
    assert same(after, before)
    assert torch.equal(after.images, images)


@pytest.mark.parametrize("settings", SYSTEMS.values(), ids=SYSTEMS)
def test_the_given_example_stays_as_it_is(settings):
    before, again = example(), example()
    for number in range(8):
        augmenter(settings)(before, number)
    assert same(before, again)


# --- the same by the same number


def test_every_number_of_workers_gives_the_same_samples():
    varied = partial(augmenter({**TRIO, **ATTENTION}, seed=9), example())
    alone = [varied(n) for n in range(8)]
    # A worker begins as a process of its own and imports what it is handed: nothing of this file.
    settings = {"num_workers": 2, "multiprocessing_context": worker_context()}
    shared = [*DataLoader(range(8), batch_size=None, collate_fn=varied, **settings)]
    assert all(same(one, other) for one, other in zip(alone, shared, strict=True))
    assert len({one.images.numpy().tobytes() for one in alone}) == len(alone)


def test_neither_seed_nor_number_nor_other_random_numbers_are_shared():
    settings = {"rotation": {}, "noise": {}}
    first = augmenter(settings, 1)(example(), 2)
    state = torch.random.get_rng_state()
    assert same(augmenter(settings, 1)(example(), 2), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not same(augmenter(settings, 2)(example(), 2), first)
    assert not same(augmenter(settings, 1)(example(), 3), first)


def test_leaving_one_kind_out_leaves_the_others_as_they_were():
    with_noise = augmenter({"rotation": {}, "noise": {}})(example(), 2)
    without = augmenter({"rotation": {}})(example(), 2)
    assert torch.equal(with_noise.maps["label"], without.maps["label"])
    assert not torch.equal(with_noise.images, without.images)


def test_each_axis_is_flipped_about_as_often_as_asked():
    image = torch.arange(6.0).view(1, 2, 3, 1)
    flipped = [augmenter({"flips": {"x": 0.5, "y": 0.2}})(Example("a", ("t1",), image), n).images for n in range(400)]
    assert sum(float(f[0, 0].sum()) > float(f[0, 1].sum()) for f in flipped) == pytest.approx(200, abs=40)
    assert sum(float(f[0, 0, 0]) > float(f[0, 0, 1]) for f in flipped) == pytest.approx(80, abs=32)


# --- intensities


def one_value(settings, values, **more):
    image = torch.tensor(values).view(1, -1, 1, 1)
    return augmenter(settings)(Example("a", ("t1",), image, **more), 0).images.flatten().tolist()


def test_intensities_by_hand():
    assert one_value({"gain": {"factor": [2, 2]}}, [1.0, -3.0]) == [2.0, -6.0]
    # Between -1 and 3: 1 lies in the middle.
    assert one_value({"gamma": {"power": [2, 2]}}, [-1.0, 1.0, 3.0]) == pytest.approx([-1.0, 0.0, 3.0])
    assert one_value({"brightness": {"shift": [0.1, 0.1]}}, [-1.0, 3.0]) == pytest.approx([-0.6, 3.4])
    assert one_value({"gamma": {}, "brightness": {}}, [2.0, 2.0]) == [2.0, 2.0]
    assert one_value({"gain": {"factor": [2, 2]}, "clip": [0, 1]}, [0.25, 0.75, -1.0]) == [0.5, 1.0, 0.0]


def test_noise_has_its_spread_and_blur_its_width():
    image = torch.zeros(1, 60, 60, 1)
    noise = augmenter({"noise": {"sd": [0.02, 0.02]}})(Example("a", ("t1",), image), 0).images
    assert float(noise.std()) == pytest.approx(0.02, rel=0.05)
    image[0, 30, 30] = 1.0
    soft = augmenter({"blur": {"sigma": [0.7, 0.7]}})(Example("a", ("t1",), image), 0).images[0, :, :, 0]
    assert float(soft.sum()) == pytest.approx(1.0, abs=1e-4)
    weights = np.exp(-0.5 * (np.arange(-3, 4) / 0.7) ** 2)
    assert float(soft[31, 30] / soft[30, 30]) == pytest.approx(weights[4], rel=1e-3)


def test_channels_draw_for_themselves_where_asked():
    for per_channel in (False, True):
        settings = {"gain": {"per_channel": per_channel}}
        before = example()
        factors = (augmenter(settings)(before, 0).images / before.images).mean((1, 2, 3))
        assert (abs(float(factors[0] - factors[1])) < 1e-6) is not per_channel


def test_outside_the_brain_channels_stay_zero():
    brain = torch.zeros(20, 18, 1, dtype=torch.bool)
    brain[4:16, 4:14] = True
    before = example(brain=brain)
    before.images.mul_(brain)
    after = augmenter({**TRIO, "noise": {}})(before, 1)
    assert not bool(after.images[:, ~after.maps["brain"]].any())
    assert bool((after.images[:, after.maps["brain"]] != 0).all())
    # A whole head is changed everywhere.
    head = augmenter({"noise": {}})(example(brain=brain), 1)
    assert bool((head.images[:, ~brain] != example().images[:, ~brain]).all())


# --- channels that are computed


STORED = ("dwi_ratio", "dwi_mirror_log_ratio", "height", "brain")


def sample(seed=0):
    """A patient with an uneven ellipsoid of brain."""
    drawn = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (24, 28, 20)), indexing="ij")
    brain = (((axes[0] - 0.05) / 0.8) ** 2 + (axes[1] / 0.85) ** 2 + ((axes[2] - 0.1) / 0.8) ** 2 < 1)[None]
    images = {role: torch.rand(1, 24, 28, 20, generator=drawn) + 0.5 for role in ("dwi", "adc")}
    lesion = torch.zeros(1, 24, 28, 20)
    lesion[0, 14:18, 12:16, 8:12] = 0.75
    return Sample(
        images, brain, lesion * brain, brain.to(torch.uint8), torch.tensor([[0.995, 0.1, 0.0, 1.5]]), (2.0,) * 3, (11,)
    )


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_flipped_channel_is_the_channel_of_the_flipped_images(axis):
    dim = "xyz".index(axis)
    flip = augmenter({"flips": {axis: 1}})
    channels = make_channels(sample(), STORED)
    turned = flip(Example("a", STORED, channels[0], {"brain": sample().brain[0]}), 0).images
    made = make_channels(augment_sample(flip, sample(), [0]), STORED)[0]
    torch.testing.assert_close(turned, channels[0].flip(dim + 1))
    if axis == "x":
        assert float((made[1] - channels[0, 1]).abs().max()) > 0.1
    torch.testing.assert_close(turned, made, atol=2e-5, rtol=1e-4)


def test_made_channels_are_those_of_the_varied_patient():
    varied = augment_sample(augmenter(TRIO), sample(), [3])
    assert varied.lesion.shape == varied.brain.shape
    assert not bool(varied.lesion[~varied.brain].any())
    # Never above what it was, not by a rounding: entropies of fractions above 1 are no numbers.
    assert 0.5 < float(varied.lesion.max()) <= 0.75
    assert set(varied.tissue.unique().tolist()) == {0, 1}
    assert bool(make_channels(varied, STORED).isfinite().all())
    again = augment_sample(augmenter(TRIO), sample(), [3])
    assert torch.equal(again.images["dwi"], varied.images["dwi"])


@pytest.mark.parametrize(
    ("channel", "settings", "named"),
    [
        ("dwi_mirror_log_ratio", {"elastic": {}}, "'elastic'"),
        ("adc_mirror_log_ratio", {"gamma": {}}, "'gamma'"),
        ("height", {"flips": {"z": 0.5}}, "'flips.z'"),
        ("edge_distance_mm", {"rotation": {}, "scale": {}}, "'rotation', 'scale'"),
    ],
)
def test_a_stored_channel_that_cannot_follow_is_refused(channel, settings, named):
    with pytest.raises(InputError, match=f"'{channel}' cannot follow") as caught:
        augmenter(settings)(example(channels=("dwi", channel)), 0)
    assert f"Leave out {named}, or" in caught.value.next_step


def test_masks_among_the_channels_stay_masks():
    brain = torch.zeros(20, 18, 1)
    brain[4:16, 4:14] = 1.0
    before = Example("a", ("dwi", "brain"), torch.stack([brain * 0.7, brain]), {"brain": brain.bool()})
    after = augmenter({**TRIO, "noise": {}, "flips": {}})(before, 1)
    assert torch.equal(after.images[1], after.maps["brain"].float())
    assert after.images[0].unique().numel() > 20


def test_every_channel_that_is_no_image_is_known():
    made_of_the_brain = {name for name, role in CHANNEL_ROLES.items() if role is None}
    mirrored = {name for name in {*CHANNEL_ROLES, *CHANNELS} if "mirror" in name}
    assert made_of_the_brain | mirrored <= {*FLIPPED, *MASKS}


# --- damaged samples


def test_what_is_damaged_is_said_by_name():
    broken = example()
    broken.images[1, 3, 4:6] = float("nan")
    with pytest.raises(InputError, match=r"'patient 7' is damaged. 2 of 360 voxels of 'adc' are not finite"):
        augmenter({})(broken, 0)
    other = example()
    other.maps["label"] = other.maps["label"][:-1]
    with pytest.raises(InputError, match=r"'label' has the shape \(19, 18, 1\), its images \(20, 18, 1\)"):
        augmenter({})(other, 0)
    with pytest.raises(InputError, match="expected are"):
        augmenter({})(Example("a", ("dwi",), torch.zeros(2, 3, 3, 3)), 0)
    fractions = example(share=torch.full((20, 18, 1), float("inf")))
    with pytest.raises(InputError, match="360 of 360 voxels of 'share'"):
        augmenter({})(fractions, 0)


# --- recipes


class Holder(pydantic.BaseModel):
    augmentation: Augmentation | None = None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rotaton": {}}, ("'augmentation.rotaton'", "Did you mean 'augmentation.rotation'?")),
        ({"rotation": {"degree": 3}}, ("Did you mean 'augmentation.rotation.degrees'?",)),
        ({"scale": {"factor": [1.1, 0.9]}}, ("'augmentation.scale.factor'", "1.1", "must not be above")),
        ({"scale": {"factor": [0, 1]}}, ("must be above 0",)),
        ({"noise": {"sd": [-1, 1]}}, ("no number must be below 0",)),
        ({"flips": {"x": 2}}, ("'augmentation.flips.x'", "found is 2")),
        ({"rotation": {"about": ["z", "z"]}}, ("names an axis twice",)),
    ],
)
def test_wrong_settings_are_refused_in_words(data, words):
    with pytest.raises(pydantic.ValidationError) as caught:
        Holder.model_validate({"augmentation": data})
    text = str(not_valid(caught.value, Holder, "test"))
    for part in words:
        assert part in text


def test_named_without_numbers_the_trios_ranges_hold():
    found = Augmentation.model_validate(TRIO)
    assert found.rotation.degrees == (-15.0, 15.0)
    assert found.scale.factor == (0.9, 1.1)
    assert (found.elastic.sigma, found.elastic.alpha) == ((8.0, 12.0), (50.0, 100.0))
    assert (found.gamma.power, found.brightness.shift) == ((0.8, 1.2), (-0.1, 0.1))
    assert Augmentation.model_validate(found.model_dump(mode="json")) == found
