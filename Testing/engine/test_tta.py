"""Mirrored passes: the mean of both, its entropy, and what mirroring does to channels that compare the sides."""

from __future__ import annotations

from typing import Any

import network_phantom as phantom
import numpy as np
import pytest

from strokeseg.events import Event, Monitor, Progress
from strokeseg.predict import Asked, predict
from strokeseg.predict.mirroring import entropy, flipped, mean_logits
from strokeseg.prepare.channels import CHANNELS, ModelSpace
from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid


def test_the_mean_is_that_of_probabilities() -> None:
    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    passes = [np.full((1, 2, 2, 2), logit(p), np.float32) for p in (0.2, 0.9)]
    np.testing.assert_allclose(mean_logits(passes), logit(0.55), rtol=1e-6)
    several = [np.log(np.array(p, np.float32))[:, None, None, None] for p in ((0.7, 0.2, 0.1), (0.1, 0.4, 0.5))]
    shifted = [several[0] + 3, several[1] - 2]
    np.testing.assert_allclose(np.exp(mean_logits(shifted)).ravel(), (0.4, 0.3, 0.3), rtol=1e-6)


@pytest.mark.parametrize("value", [-8.0, -3.0, 0.0, 8.0])
def test_the_mean_of_equal_passes_is_one_of_them(value: float) -> None:
    passes = [np.full((1, 2, 2, 2), value, np.float32)] * 2
    np.testing.assert_allclose(mean_logits(passes), value, atol=1e-5)


def test_entropy_is_0_for_the_sure_1_for_the_undecided_and_lies_between_for_others() -> None:
    def of(*p: float) -> float:
        return float(entropy(np.array(p, np.float32)[:, None, None, None])[0, 0, 0])

    assert of(1.0, 0.0) == 0.0
    assert of(0.5, 0.5) == pytest.approx(1.0)
    assert of(0.25, 0.75) == pytest.approx(0.8112781)  # bits, the unit in which two classes have at most 1
    assert of(1 / 3, 1 / 3, 1 / 3) == pytest.approx(1.0)
    assert of(0.5, 0.5, 0.0) == pytest.approx(np.log(2) / np.log(3))


def test_the_second_pass_sees_the_case_mirrored_and_its_answer_is_mirrored_back() -> None:
    channels = phantom.noise(2, 12, 7, 5)
    seen = []

    def network(given: Any) -> Any:
        seen.append(given.copy())
        ramp = np.linspace(-1, 1, 12, dtype=np.float32)[:, None, None]
        return given[:1] + ramp

    found = predict(phantom.prepared(channels), phantom.card(), phantom.Fake(network), Monitor(), Asked(tta=True))
    np.testing.assert_array_equal(seen[0], channels)
    np.testing.assert_array_equal(seen[1], channels[:, ::-1])
    ramp = np.linspace(-1, 1, 12)[:, None, None]
    both = [1 / (1 + np.exp(-(channels[0] + r))) for r in (ramp, -ramp)]
    np.testing.assert_allclose(found.probability, (both[0] + both[1]) / 2, atol=1e-5)
    assert found.uncertainty is None


def test_without_tta_there_is_one_pass_and_a_network_without_sides_gives_the_same_with_it() -> None:
    channels = phantom.noise(2, 12, 7, 5)
    runtime = phantom.Fake(lambda c: 2 * c[:1])
    plain = predict(phantom.prepared(channels), phantom.card(), runtime, Monitor())
    assert len(runtime.seen) == 1
    mirrored = predict(phantom.prepared(channels), phantom.card(), runtime, Monitor(), Asked(tta=True))
    assert len(runtime.seen) == 3
    np.testing.assert_allclose(mirrored.classes, plain.classes, atol=2e-6)


def test_uncertainty_runs_the_mirrored_case_and_is_0_outside_the_brain() -> None:
    brain = np.zeros((12, 8, 6), dtype=bool)
    brain[2:10] = True
    logits = np.zeros((1, 12, 8, 6), np.float32)
    logits[:, 6:] = 40.0  # the right half surely lesion; the mirrored pass says that of the other half
    runtime = phantom.Fake(lambda c: logits)
    case = phantom.prepared(phantom.noise(2, 12, 8, 6), brain)
    found = predict(case, phantom.card(), runtime, Monitor(), Asked(uncertainty=True))
    assert len(runtime.seen) == 2
    assert found.uncertainty is not None
    assert found.uncertainty.dtype == np.float32
    assert not found.uncertainty[~brain].any()
    np.testing.assert_allclose(found.uncertainty[brain], 0.8112781, atol=2e-3)  # half of 0.5 and 1: 0.75
    np.testing.assert_allclose(found.probability[brain], 0.75, atol=1e-3)


def test_windows_are_mirrored_too_and_progress_counts_both_passes() -> None:
    heard: list[Event] = []
    network = phantom.convolutions()
    case = phantom.prepared(phantom.noise(2, 30, 20, 20))
    asked = Asked("windows", (20, 20, 20), 0.5, tta=True)
    found = predict(case, phantom.card(), phantom.Fake(network), Monitor(heard.append), asked)
    one = [
        predict(
            phantom.prepared(c), phantom.card(), phantom.Fake(network), Monitor(), Asked("windows", (20, 20, 20), 0.5)
        )
        for c in (case.channels, flipped(case.channels))
    ]
    expected = (one[0].probability + one[1].probability[::-1]) / 2
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    told = [(e.done, e.total) for e in heard if isinstance(e, Progress)]
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_tissue_is_the_most_probable_label_in_the_brain() -> None:
    brain = np.ones((8, 8, 8), dtype=bool)
    brain[0] = False

    def tissue(given: Any) -> Any:
        logits = np.zeros((4, 8, 8, 8), np.float32)
        logits[1], logits[2, :, 4:], logits[3, :, :, 6:] = 1.0, 2.0, 3.0
        return logits

    used = phantom.card(outputs=("lesion", "tissue"))
    runtime = phantom.Fake({"lesion": lambda c: c[:1], "tissue": tissue})
    for asked in (Asked(), Asked(tta=True)):
        found = predict(phantom.prepared(phantom.noise(2, 8, 8, 8), brain), used, runtime, Monitor(), asked).tissue
        assert found is not None
        assert found.dtype == np.uint8
        assert not found[0].any()
        assert (found[1:, :4, :6] == 1).all()
        assert (found[1:, 4:, :6] == 2).all()
        assert (found[1:, :, 6:] == 3).all()
    assert predict(phantom.prepared(phantom.noise(2, 8, 8, 8)), phantom.card(), runtime, Monitor()).tissue is None


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_flipping_a_channel_gives_the_channel_of_the_mirrored_patient(name: str) -> None:
    """Also of channels that compare the sides, with a plane that is tilted and not in the middle: the sign stays."""
    grid = Grid((24, 26, 22), np.array([[3, 0, 0, -30], [0, 3, 0, -36], [0, 0, 3, -30], [0, 0, 0, 1.0]]))
    index = np.stack(np.meshgrid(*(np.arange(s) for s in grid.shape), indexing="ij"), axis=-1)
    world = grid.to_world(index)
    brain = np.linalg.norm((world - (6.0, 2.0, 3.0)) / (24.0, 30.0, 26.0), axis=-1) < 1
    images = {
        r: (2 + phantom.noise(*grid.shape, seed=s) / 4) / (2 if r == "adc" else 1)
        for s, r in enumerate(("dwi", "adc", "b0", "t1"))
    }
    normal = np.array([0.98, 0.15, -0.1])
    normal /= np.linalg.norm(normal)
    offset = float(normal @ (6.0, 2.0, 3.0))
    middle = float(grid.to_world(np.array([11.5, 0.0, 0.0]))[0])

    def space(side: int) -> ModelSpace:
        # Reflection at R = middle turns the normal's R component around; it has to point to the right again.
        plane = normal if side > 0 else np.array([normal[0], -normal[1], -normal[2]])
        moved = offset if side > 0 else -(offset - 2 * middle * normal[0])
        given = {r: image[::side] for r, image in images.items()}
        return ModelSpace(grid, given, brain[::side], Midplane(tuple(plane), moved, 1.0, "by hand"))

    plain, mirrored = space(1).channel(name), space(-1).channel(name)
    assert np.ptp(plain[brain]) > 0 or name == "brain"
    np.testing.assert_allclose(plain[::-1], mirrored, atol=2e-4)
