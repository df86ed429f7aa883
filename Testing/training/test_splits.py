"""Splits: the same names give the same split everywhere, in the published numbers, and nobody is on two sides."""

from __future__ import annotations

import json
import random

import pytest

pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")

from strokeseg.errors import InputError
from strokeseg_training.datasets import Member, Split, read_split, split_patients, write_split
from strokeseg_training.datasets.splits import size_group
from strokeseg_training.recipe_data import SplitRule


def members(number, centres=1):
    # Every tenth has an empty mask; volumes from 0.1 to 100 ml.
    volumes = [0.0 if n % 10 == 0 else 0.1 * 10 ** (n % 4) for n in range(number)]
    return [Member(f"p{n:03d}", f"p{n:03d}", f"c{n % centres}", ml) for n, ml in enumerate(volumes)]


def sizes(split):
    return [len(split.sides[side]) for side in ("train", "val", "test")]


def test_lesion_net_splits_250_patients_as_published():
    assert sizes(split_patients(members(250), SplitRule())) == [187, 25, 38]


@pytest.mark.parametrize(
    ("number", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]), (20, [15, 2, 3])]
)
def test_small_sets_leave_no_side_empty_where_there_are_enough(number, expected):
    assert sizes(split_patients(members(number), SplitRule())) == expected


def test_without_a_test_side_validation_takes_the_rest():
    assert sizes(split_patients(members(10), SplitRule(train=0.75, val=0.25, test=0))) == [7, 3, 0]


def test_the_split_depends_on_names_and_seed_alone():
    given = members(40, centres=3)
    shuffled = random.Random(1).sample(given, len(given))
    rule = SplitRule(by=("centre", "size"))
    split = split_patients(given, rule)
    assert split_patients(shuffled, rule) == split
    assert split_patients(given, SplitRule(by=("centre", "size"), seed=43)).sha256 != split.sha256


def test_the_split_is_the_same_on_every_machine():
    # Computed once; hashes of names do not depend on a library's version.
    split = split_patients([Member(f"sub-{n}", f"sub-{n}", "", 1.0) for n in range(8)], SplitRule())
    assert split.sha256 == "effc842bf0f28ec5e1904f39f4ad1796d3bc64a3f0bff8321d23f63a9217ae8e"


def test_every_side_gets_its_share_of_every_centre_and_size():
    given = members(240, centres=3)
    rule = SplitRule(train=0.5, val=0.25, test=0.25, by=("centre", "size"))
    split = split_patients(given, rule)
    groups = {}
    for m in given:
        group = groups.setdefault((m.centre, size_group(m.lesion_ml, rule.sizes_ml)), dict.fromkeys(split.sides, 0))
        group[split.side_of(m.id)] += 1
    assert len(groups) == 12
    for counts in groups.values():
        total = sum(counts.values())
        assert abs(counts["train"] - total / 2) <= 1
        assert abs(counts["val"] - total / 4) <= 1
        assert abs(counts["test"] - total / 4) <= 1


def test_groups_of_size_put_empty_masks_apart():
    assert [size_group(ml, (1.0, 10.0)) for ml in (0, 0.5, 1.0, 1.1, 10.0, 11.0)] == [0, 1, 1, 2, 2, 3]


def test_scans_of_a_person_stay_together():
    given = [Member(f"p{n}_t{t}", f"p{n}", "", 1.0) for n in range(30) for t in (1, 2, 3)]
    split = split_patients(given, SplitRule())
    for n in range(30):
        assert len({split.side_of(f"p{n}_t{t}") for t in (1, 2, 3)}) == 1
    assert sum(sizes(split)) == 90


def test_a_person_on_two_sides_is_refused():
    with pytest.raises(InputError, match="'p' is in 'train' and in 'test'"):
        Split({"train": ("p_t1",), "val": (), "test": ("p_t2",)}, {"p_t1": "p", "p_t2": "p"}, {})
    with pytest.raises(InputError, match="not complete"):
        Split({"train": ("a", "a"), "val": (), "test": ()}, {"a": "a"}, {})


def test_a_split_is_read_back_and_a_changed_one_refused(tmp_path):
    path = tmp_path / "split.json"
    split = split_patients(members(10), SplitRule())
    write_split(split, path)
    assert read_split(path).sha256 == split.sha256
    data = json.loads(path.read_text(encoding="utf-8"))
    data["sides"]["train"].append(data["sides"]["test"].pop())
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="was changed"):
        read_split(path)


@pytest.mark.parametrize("wrong", [{"train": 0.8}, {"sizes_ml": (10.0, 1.0)}, {"by": ("age",)}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"train|sizes_ml|by"):
        SplitRule(**wrong)
