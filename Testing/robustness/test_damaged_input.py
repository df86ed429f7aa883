"""Damaged input ends in three sentences or in a result: a seeded choice of the cases, all with STROKESEG_SOAK=1."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the files beside this one are a program, no package

import damaged_input
from damage import Case, Trial, refused, succeeds

SEED = int(os.environ.get("STROKESEG_SEED", "0"))
SHARE_OF_GROUP = 3
# Gigabytes and hundreds of volumes take seconds each; the program runs them.
SLOW = ("bomb", "gigabyte", "elephant", "70 volumes")


def chosen_cases() -> list[str]:
    """Names of all cases, or of a few of each group."""
    if os.environ.get("STROKESEG_SOAK") == "1":
        return [case.name for case in damaged_input.ALL_CASES]
    rng = np.random.default_rng(SEED)
    groups: dict[str, list[str]] = {}
    for case in damaged_input.ALL_CASES:
        if not any(word in case.name for word in SLOW):
            groups.setdefault(case.group, []).append(case.name)
    return [str(name) for names in groups.values() for name in rng.choice(names, SHARE_OF_GROUP, replace=False)]


@pytest.fixture(scope="module")
def ring() -> Iterator[damaged_input.Ring]:
    with damaged_input.Ring(SEED) as made:
        yield made


@pytest.mark.parametrize("name", chosen_cases())
def test_damaged_input_ends_in_three_sentences_or_a_result(ring: damaged_input.Ring, name: str) -> None:
    verdict = ring.run(damaged_input.case_named(name))
    if verdict.status == "skipped":
        pytest.skip(verdict.said)
    assert verdict.wrong == (), f"{verdict.note} {verdict.said}"


def test_there_are_enough_cases_and_each_has_its_own_name() -> None:
    names = [case.name for case in damaged_input.ALL_CASES]
    assert len(names) >= 60
    assert len(set(names)) == len(names)


def test_the_choice_depends_on_the_seed_only() -> None:
    assert chosen_cases() == chosen_cases()


def untouched(trial: Trial) -> None:
    pass


def without_lesion(trial: Trial) -> None:
    trial.save("adc", np.where(trial.brain.lesion, np.float32(0.8), trial.brain.adc))


def missing(trial: Trial) -> None:
    trial.path("--dwi").unlink()


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (Case("sound", "judge", untouched, refused()), "exit code 0, expected 3"),
        (Case("no file", "judge", missing, succeeds()), "exit code 3, expected 0"),
        (Case("no file, other words", "judge", missing, refused("memory")), "does not say 'memory'"),
        (Case("no lesion", "judge", without_lesion, succeeds()), "0.00 ml, without damage"),
    ],
)
def test_the_judge_notices_what_is_wrong(ring: damaged_input.Ring, case: Case, complaint: str) -> None:
    verdict = ring.run(case)
    assert verdict.status == "FAILED"
    assert any(complaint in wrong for wrong in verdict.wrong)
