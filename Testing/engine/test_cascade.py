"""The decision rule `cascade`: the map itself says which threshold it is decided by, and nothing else does."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from stroke_phantom import save_nifti, stroke_phantom

from strokeseg.case import Case
from strokeseg.errors import InputError, ModelError
from strokeseg.models import ModelStore, parse_card
from strokeseg.models.decision import CascadeStep, Decision
from strokeseg.postprocess import cascade_threshold, decide
from strokeseg.relabel import evidence_of, read_evidence, relabel
from strokeseg.segmentation import segment
from strokeseg.tables import card_text

# systems.md, 4.4: maximum, threshold, volume in voxels of 1 mm³.
PUBLISHED = ((0.8, 0.6, 0.2), (0.6, 0.5, 0.1), (0.4, 0.35, 0.05), (0.25, 0.2, 0.02))
OTHERWISE = 0.15
MM = np.eye(4)
STEPS = [{"maximum": m, "threshold": t, "volume_ml": v} for m, t, v in PUBLISHED]
CASCADE = {"rule": "cascade", "steps": STEPS, "threshold": OTHERWISE}


def blob(value, voxels, rest=0.0, shape=(30, 20, 10)):
    """A map with so many voxels of a value, in one piece."""
    made = np.full(shape, rest, np.float32)
    made.reshape(-1)[:voxels] = value
    return made


def chosen(probability, affine=MM, brain=None, steps=PUBLISHED):
    return cascade_threshold(probability, steps=steps, otherwise=OTHERWISE, affine=affine, brain=brain)


@pytest.mark.parametrize(
    ("value", "voxels", "threshold"),
    [
        (0.9, 201, 0.6),
        (0.9, 200, 0.5),  # 0.2 ml is not more than 0.2 ml; the next step asks for less
        (0.9, 101, 0.5),
        (0.9, 100, 0.35),
        (0.9, 50, 0.2),
        (0.9, 20, OTHERWISE),
        (0.75, 500, 0.5),
        (0.55, 500, 0.35),  # reaches 0.5 with 500 voxels, but no voxel is above 0.6
        (0.38, 500, 0.2),
        (0.3, 21, 0.2),
        (0.22, 500, OTHERWISE),
        (0.0, 0, OTHERWISE),
    ],
)
def test_the_first_step_that_fits_gives_the_threshold(value, voxels, threshold):
    assert chosen(blob(value, voxels)) == threshold


def test_a_maximum_must_be_above_and_a_threshold_is_reached_by_itself():
    steps = ((0.5, 0.25, 0.01),)
    assert chosen(blob(0.5, 100), steps=steps) == OTHERWISE
    # One voxel above the maximum; ten more reach the threshold exactly: 11 voxels are more than 0.01 ml.
    exact = blob(0.25, 11)
    exact[0, 0, 0] = 0.75
    assert chosen(exact, steps=steps) == 0.25
    assert np.count_nonzero(decide(exact, threshold=0.25, minimum_lesion_ml=0, affine=MM)) == 11


def test_volumes_are_millilitres_whatever_the_voxels():
    # 26 voxels of 2 mm are 0.208 ml, 25 are 0.2 ml.
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    assert chosen(blob(0.9, 26), coarse) == 0.6
    assert chosen(blob(0.9, 25), coarse) == 0.5
    # Headers are float32: neither side of 0.2 ml may turn on their last bit.
    for nudge in (1 - 1e-7, 1 + 1e-7):
        assert chosen(blob(0.9, 25), coarse * nudge) == 0.5
    assert chosen(blob(0.9, 26), np.diag([-2.0, 2.0, -2.0, 1.0])) == 0.6


def test_nothing_outside_the_brain_has_a_say():
    probability = blob(0.9, 500)
    brain = np.ones(probability.shape, np.uint8)
    brain.reshape(-1)[:500] = 0
    assert chosen(probability) == 0.6
    assert chosen(probability, brain=brain) == OTHERWISE
    assert chosen(probability, brain=np.zeros_like(brain)) == OTHERWISE


def test_no_reference_can_reach_the_decision():
    # The published system blanked predictions where the reference was empty: there is no way to hand one in.
    given = set(inspect.signature(cascade_threshold).parameters)
    assert given == {"probability", "steps", "otherwise", "affine", "brain"}


def test_a_sharp_lesion_of_ten_ml_stays():
    # 10 ml at 0.95 in a brain of 1400 ml: above 5 ml at 0.5, mean below 0.02. The published rule without reference
    # would erase it.
    probability = np.zeros((140, 100, 100), np.float32)
    probability[20:45, 20:40, 20:40] = 0.95
    assert (np.count_nonzero(probability > 0.5), probability.mean() < 0.02) == (10_000, True)
    mask = decide(probability, threshold=chosen(probability), minimum_lesion_ml=0, affine=MM)
    assert np.count_nonzero(mask) == 10_000


def test_maps_that_are_none_are_refused():
    with pytest.raises(InputError, match="no probabilities"):
        chosen(blob(7.0, 3))
    with pytest.raises(InputError, match="brain mask"):
        chosen(blob(0.9, 3), brain=np.ones((2, 2, 2)))


# --- in a card


def with_decision(decision):
    text = (ModelStore().folder_of("adc-threshold") / "card.json").read_text(encoding="utf-8")
    return {**json.loads(text), "decision": decision}


def test_a_card_holds_the_cascade():
    card = parse_card(with_decision(CASCADE))
    assert card.decision.steps[1] == CascadeStep(maximum=0.6, threshold=0.5, volume_ml=0.1)
    assert (card.decision.rule, card.decision.threshold, len(card.decision.steps)) == ("cascade", 0.15, 4)
    assert '"maximum": 0.6' in card_text(card)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"rule": "cascade", "threshold": 0.1}, "Field 'decision.steps': expected"),
        ({"rule": "cascade", "steps": [], "threshold": 0.1}, "at least one entry"),
        ({"rule": "cascade", "steps": STEPS}, "Field 'decision.threshold'"),
        ({**CASCADE, "threshold": 0.2}, "thresholds that fall from step to step"),
        ({**CASCADE, "steps": STEPS[::-1]}, "thresholds that fall from step to step"),
        ({**CASCADE, "steps": [{**STEPS[0], "volume": 3}]}, "did you mean 'volume_ml'"),
        ({**CASCADE, "steps": [{**STEPS[0], "maximum": 80}]}, "Field 'decision.steps[0].maximum'"),
        ({**CASCADE, "steps": STEPS * 3}, "at most 8 steps"),
        ({"rule": "threshold", "threshold": 0.5, "steps": STEPS}, "no field of this name"),
    ],
)
def test_a_cascade_that_is_none_is_refused(decision, words):
    with pytest.raises(ModelError) as caught:
        parse_card(with_decision(decision))
    assert words in caught.value.cause


def test_several_classes_have_no_cascade():
    data = with_decision(CASCADE)
    data["classes"] = [*data["classes"], {**data["classes"][0], "value": 2, "name": "old"}]
    with pytest.raises(ModelError, match=r"decision\.rule"):
        parse_card(data)


# --- carried out by the engine


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder, patient = tmp_path_factory.mktemp("scans"), stroke_phantom()
    files = {
        role: save_nifti(folder / f"{role}.nii.gz", getattr(patient, role), patient.affine) for role in ("dwi", "adc")
    }
    return Case.from_files(**files)


@pytest.fixture(scope="module")
def card():
    """The threshold rule with a cascade whose first step its score never reaches; some ml of it reach 0.4."""
    steps = (CascadeStep(0.999, 0.9, 500.0), CascadeStep(0.3, 0.4, 0.1))
    return replace(ModelStore().card("adc-threshold"), decision=Decision("cascade", 0.05, steps))


@pytest.fixture(scope="module")
def result(case, card):
    return segment(case, card)


def test_the_engine_decides_by_the_cards_cascade(case, card, result):
    used = result.summary["model"]
    assert (used["rule"], used["threshold"], used["own_threshold"]) == ("cascade", 0.4, 0.4)
    plain = segment(case, "adc-threshold", threshold=0.4)
    assert np.array_equal(result.mask, plain.mask)
    assert result.mask.any()
    assert plain.summary["model"]["own_threshold"] == ModelStore().card("adc-threshold").decision.threshold
    # Where no step fits, the last threshold decides.
    faint = replace(card, decision=replace(card.decision, steps=card.decision.steps[:1]))
    assert segment(case, faint).summary["model"]["threshold"] == 0.05


def test_a_threshold_of_the_user_goes_before_the_cascade(case, card):
    used = segment(case, card, threshold=0.7).summary["model"]
    assert (used["threshold"], used["own_threshold"]) == (0.7, 0.4)


def test_a_peak_is_asked_of_a_run_of_its_relabelled_result_and_of_the_summary(case, tmp_path):
    """The rule's score at 0.1, where it has specks, of lesions that reach 0.15 somewhere."""
    rule = replace(ModelStore().card("adc-threshold"), minimum_lesion_ml=0.0)
    plain = segment(case, replace(rule, decision=Decision("threshold", 0.1)))
    card = replace(rule, decision=Decision("threshold", 0.1, peak=0.15))
    found = segment(case, card)
    used = found.summary["model"]
    assert [used[k] for k in ("threshold", "own_threshold", "peak", "own_peak")] == [0.1, 0.1, 0.15, 0.15]
    labels, count = ndimage.label(plain.mask, np.ones((3, 3, 3)))
    reached = [n for n in range(1, count + 1) if plain.probability[labels == n].max() >= np.float32(0.15)]
    assert 0 < len(reached) < count
    assert np.array_equal(found.mask > 0, np.isin(labels, reached))
    found.save(tmp_path / "result")
    for threshold in (0.08, 0.1, 0.12):
        again = segment(case, card, threshold=threshold)
        for evidence in (evidence_of(found, "kept"), read_evidence(tmp_path / "result")):
            done = relabel(evidence, threshold=threshold)
            assert [x.voxels for x in done.lesions] == [x.voxels for x in again.lesions]
    assert segment(case, card, threshold=0.05).summary["model"]["peak"] == pytest.approx(0.075)


def test_a_result_of_a_cascade_can_be_relabelled(result, tmp_path):
    result.save(tmp_path / "result")
    assert json.loads((tmp_path / "result" / "summary.json").read_text())["model"]["rule"] == "cascade"
    for evidence in (evidence_of(result, "kept"), read_evidence(tmp_path / "result")):
        assert relabel(evidence, threshold=0.4).volume_ml == result.volume_ml
