"""From logits to probabilities on the scan's grid, with runtimes that say what the test tells them to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusion_phantom as phantom
import numpy as np
import pytest
from numpy.typing import NDArray

from strokeseg.errors import Cancelled, DependencyError, ModelError
from strokeseg.events import Event, Monitor, Progress
from strokeseg.models import LesionClass, ModelCard, ModelStore
from strokeseg.predict import Asked, Prediction, predict
from strokeseg.prepare import Prepared, prepare
from strokeseg.runtime import open_runtime

Array = NDArray[np.float32]
CARD = ModelStore().card("adc-threshold")


class Fake:
    """A runtime whose outputs are a function of the batch."""

    name = "fake"
    device = "cpu"
    precision = "fp32"
    notes = ()

    def __init__(self, outputs: Callable[[Array], dict[str, Any]]) -> None:
        self.outputs = outputs
        self.seen: list[tuple[int, ...]] = []

    def run(self, batch: Array) -> dict[str, Any]:
        self.seen.append(batch.shape)
        return self.outputs(batch)


def logits(*values: float) -> Fake:
    """One constant map a value."""
    return Fake(lambda batch: {"lesion": np.stack([np.full(batch.shape[2:], v, np.float32) for v in values])[None]})


def card(classes: int = 1, **changes: Any) -> ModelCard:
    found = tuple(LesionClass(i + 1, f"class {i + 1}", "SCT", "1", "x", (i, 0, 0)) for i in range(classes))
    decision = replace(CARD.decision, rule="threshold" if classes == 1 else "argmax")
    return replace(CARD, name="fake", classes=found, decision=decision, **changes)


@pytest.fixture(scope="module")
def case() -> Prepared:
    """A prepared patient whose model grid is smaller than the scan."""
    prepared = prepare(phantom.patient(phantom.centred((48, 54, 44), (4.0, 4.0, 4.0))).case(), CARD, Monitor())
    assert all(m < n for m, n in zip(prepared.model_grid.grid.shape, (48, 54, 44), strict=True))
    return prepared


def predicted(case: Prepared, runtime: Any, used: ModelCard | None = None, **options: Any) -> Prediction:
    return predict(case, used or card(), runtime, Monitor(), Asked(**options))


def test_one_class_passes_the_sigmoid_and_lives_in_the_brain_only(case: Prepared) -> None:
    found = predicted(case, logits(1.0))
    brain = case.brain.mask
    assert found.classes.shape == (2, 48, 54, 44)
    assert found.classes.dtype == np.float32
    np.testing.assert_allclose(found.probability[brain], 1 / (1 + np.exp(-1.0)), atol=1e-5)
    assert not found.probability[~brain].any()
    assert (found.classes[0][~brain] == 1.0).all()
    np.testing.assert_allclose(found.classes.sum(axis=0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(found.probability, found.classes[1])


def test_the_runtime_gets_one_batch_of_the_cards_channels(case: Prepared) -> None:
    runtime = logits(0.0)
    predicted(case, runtime)
    assert runtime.seen == [(1, 9, *case.model_grid.grid.shape)]


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 2.0), (2.0, 1.0), (0.5, 4.0)])
def test_the_temperature_divides_the_logits(case: Prepared, temperature: float, expected: float) -> None:
    found = predicted(case, logits(2.0), card(temperature=temperature))
    np.testing.assert_allclose(found.probability[case.brain.mask], 1 / (1 + np.exp(-expected)), atol=1e-5)


def test_several_classes_pass_the_softmax_background_first(case: Prepared) -> None:
    found = predicted(case, logits(0.0, 1.0, 2.0), card(2))
    wanted = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    brain = case.brain.mask
    assert found.classes.shape == (3, 48, 54, 44)
    for value, probability in enumerate(wanted):
        np.testing.assert_allclose(found.classes[value][brain], probability, atol=1e-5)
        np.testing.assert_array_equal(found.classes[value][~brain], float(value == 0))
    np.testing.assert_allclose(found.probability[brain], wanted[1] + wanted[2], atol=1e-5)
    assert found.probability.min() >= 0


def test_the_temperature_divides_the_logits_of_several_classes(case: Prepared) -> None:
    found = predicted(case, logits(0.0, 2.0, 4.0), card(2, temperature=2.0))
    np.testing.assert_allclose(
        found.classes[:, case.brain.mask], predicted(case, logits(0, 1, 2), card(2)).classes[:, case.brain.mask]
    )


@pytest.mark.parametrize("offset", [-300.0, -20.0, 20.0, 300.0])
def test_only_differences_between_classes_count(case: Prepared, offset: float) -> None:
    wanted = predicted(case, logits(0.0, 1.0, 3.0), card(2)).classes
    found = predicted(case, logits(offset, offset + 1.0, offset + 3.0), card(2)).classes
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_very_large_logits_stay_probabilities(case: Prepared) -> None:
    brain = case.brain.mask
    for value, wanted in ((1e30, 1.0), (-1e30, 0.0)):
        found = predicted(case, logits(value))
        np.testing.assert_allclose(found.probability[brain], wanted, atol=1e-3)
    several = predicted(case, logits(-1e30, 0.0, 1e30), card(2))
    np.testing.assert_allclose(several.classes[2][brain], 1.0, atol=1e-3)


def test_probabilities_lie_where_the_logits_were_and_nowhere_else(case: Prepared) -> None:
    """Model grid and scan have the same spacing here: a voxel of the one is a voxel of the other."""
    grid = case.model_grid.grid
    voxel = np.rint(grid.to_voxel((34.0, -10.0, 18.0))).astype(int)

    def one_voxel(batch: Array) -> dict[str, Any]:
        lesion = np.full((1, 1, *batch.shape[2:]), -12.0, np.float32)
        lesion[(0, 0, *voxel)] = 3.0
        return {"lesion": lesion}

    found = predicted(case, Fake(one_voxel)).probability
    assert np.argwhere(found > 0.5).tolist() == [
        np.rint(case.reference.grid.to_voxel(grid.to_world(voxel))).astype(int).tolist()
    ]
    assert found.max() == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-5)


def test_a_coarser_model_grid_gives_a_map_on_the_scans_own_grid() -> None:
    patient = phantom.patient()
    used = card(preparation=replace(CARD.preparation, spacing_mm=(6.0, 6.0, 6.0), multiple=8))
    prepared = prepare(patient.case(), used, Monitor())
    assert all(s % 8 == 0 for s in prepared.model_grid.grid.shape)

    def ball(batch: Array) -> dict[str, Any]:
        index = np.stack(np.meshgrid(*(np.arange(s) for s in batch.shape[2:]), indexing="ij"), axis=-1)
        distance = np.linalg.norm(prepared.model_grid.grid.to_world(index) - (20.0, 10.0, 15.0), axis=-1)
        return {"lesion": ((20.0 - distance) / 4).astype(np.float32)[None, None]}

    found = predicted(prepared, Fake(ball), used).probability > 0.5
    assert found.shape == patient.grid.shape
    np.testing.assert_allclose(patient.grid.to_world(np.argwhere(found).mean(axis=0)), (20, 10, 15), atol=0.5)
    assert found.sum() * patient.grid.voxel_ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.03)


# --- outputs that cannot be used


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (lambda b: {}, "not 'lesion'"),
        (lambda b: {"logits": b[:, :1]}, "outputs logits"),
        (lambda b: {"lesion": b[:, :2]}, "got (1, 2, "),
        (lambda b: {"lesion": b[:, 0]}, "got (1, "),
        (lambda b: {"lesion": b[:0, :1]}, "got (0, 1, "),
        (lambda b: {"lesion": np.concatenate([b[:, :1]] * 2)}, "got (2, 1, "),
        (lambda b: {"lesion": b[:, :1, 1:]}, "Expected finite logits of the shape (1, 1, "),
        (lambda b: {"lesion": np.full_like(b[:, :1], np.nan)}, "not numbers"),
        (lambda b: {"lesion": np.full_like(b[:, :1], np.inf)}, "not numbers"),
    ],
)
def test_outputs_that_do_not_fit_the_card_are_the_models_fault(
    case: Prepared, outputs: Callable[[Array], dict[str, Any]], said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        predicted(case, Fake(outputs))
    assert caught.value.title == "The model 'fake' gave a result that cannot be used."
    assert said in caught.value.cause


def test_a_card_of_several_classes_wants_a_map_for_the_background_too(case: Prepared) -> None:
    with pytest.raises(ModelError, match=r"\(1, 3, "):
        predicted(case, logits(0.0, 1.0), card(2))


# --- strategy, progress, devices


def test_the_strategy_is_the_cards_unless_another_is_asked_for(case: Prepared) -> None:
    assert predicted(case, logits(0.0)).strategy == "whole"
    assert "own" in predicted(case, logits(0.0)).reason
    asked = predicted(case, logits(0.0), strategy="whole")
    assert (asked.strategy, "asked" in asked.reason) == ("whole", True)


def test_an_unknown_strategy_is_refused_before_anything_runs(case: Prepared) -> None:
    runtime = logits(0.0)
    with pytest.raises(ModelError) as caught:
        predicted(case, runtime, strategy="spiral")
    assert "'spiral'" in caught.value.title
    assert "whole" in caught.value.cause
    assert runtime.seen == []


def test_progress_names_the_runtime_and_ends_complete(case: Prepared) -> None:
    heard: list[Event] = []
    runtime: Any = logits(0.0)
    predict(case, card(), runtime, Monitor(heard.append), Asked(strategy="auto"))
    steps = [e for e in heard if isinstance(e, Progress)]
    assert "fake on cpu" in steps[0].message
    assert steps[-1].done == steps[-1].total > 0


def test_a_cancelled_run_does_not_start_the_model(case: Prepared) -> None:
    runtime: Any = logits(0.0)
    with pytest.raises(Cancelled):
        predict(case, card(), runtime, Monitor(cancelled=lambda: True))
    assert runtime.seen == []


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_rule_runs_on_the_cpu(device: str) -> None:
    runtime = open_runtime(CARD, device)
    assert (runtime.name, runtime.device) == ("threshold", "cpu")


@pytest.mark.parametrize("device", ["cuda:0", "cuda", "mps", "tpu", ""])
def test_another_device_for_the_rule_is_a_missing_dependency(device: str) -> None:
    with pytest.raises(DependencyError) as caught:
        open_runtime(CARD, device)
    assert caught.value.exit_code == 5
    assert f"'{device}'" in caught.value.title
    assert caught.value.next_step
