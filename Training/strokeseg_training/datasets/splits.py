"""Splits by person: the same names give the same split on every machine, and its hash goes with every result.

Persons are ordered by hashes of their names, not by a library's random numbers, whose streams may change.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.recipe_data import SplitRule

SIDES = ("train", "val", "test")
FORMAT = 1


@dataclass(frozen=True)
class Member:
    """What the split knows of an examination.

    Args:
        id: Names it.
        person: Who was examined.
        centre: Where, or "".
        lesion_ml: Volume of all lesions on the scan's own grid.
    """

    id: str
    person: str
    centre: str
    lesion_ml: float


@dataclass(frozen=True)
class Split:
    """Who is on which side.

    Args:
        sides: Side (`SIDES`) to the ids of its examinations, sorted.
        persons: Id to person.
        rule: How the split was made, JSON data.

    Raises:
        InputError: A person, or an examination, is on two sides.
    """

    sides: Mapping[str, tuple[str, ...]]
    persons: Mapping[str, str]
    rule: Mapping[str, Any]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for side, own in self.sides.items():
            for person in sorted({self.persons[i] for i in own}):
                if person in seen:
                    raise InputError(
                        "The split is not clean.",
                        f"'{person}' is in '{seen[person]}' and in '{side}'.",
                        "Make the split again: what is tested must not have been seen in training.",
                    )
                seen[person] = side
        ids = [i for side in self.sides.values() for i in side]
        if len(set(ids)) < len(ids) or set(ids) != set(self.persons):
            raise InputError(
                "The split is not complete.",
                f"It names {len(ids)} examinations on its sides, {len(set(ids))} different ones, and "
                f"{len(self.persons)} in all.",
                "Make the split again.",
            )

    @property
    def sha256(self) -> str:
        """Of who is on which side; two splits with the same hash are the same."""
        text = json.dumps({s: sorted(self.sides.get(s, ())) for s in SIDES}, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def side_of(self, name: str) -> str:
        """The side of an examination."""
        return next(side for side, ids in self.sides.items() if name in ids)


def split_patients(members: Iterable[Member], rule: SplitRule) -> Split:
    """Deal persons out to the sides, group by group, so that each side gets its share of every group.

    Args:
        members: In any order.
        rule: Shares, seed and what is spread evenly.
    """
    persons: dict[str, list[Member]] = {}
    for member in members:
        persons.setdefault(member.person, []).append(member)

    def place(person: str) -> tuple[str, str]:
        return _hash(rule.seed, _group(persons[person], rule)), _hash(rule.seed, person)

    order = sorted(persons, key=place)
    wanted, given = _counts(len(order), rule), dict.fromkeys(SIDES, 0)
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for number, person in enumerate(order, start=1):
        # Whole numbers alone: the side that is furthest behind its share of the persons so far.
        side = max(SIDES, key=lambda s: wanted[s] * number - given[s] * len(order))
        given[side] += 1
        sides[side] += [m.id for m in persons[person]]
    return Split(
        {side: tuple(sorted(ids)) for side, ids in sides.items()},
        {m.id: person for person, own in sorted(persons.items()) for m in own},
        rule.model_dump(mode="json"),
    )


def size_group(lesion_ml: float, bounds_ml: Sequence[float]) -> int:
    """0 for an empty mask, 1 up to the first bound, and so on."""
    return 0 if lesion_ml <= 0 else 1 + sum(lesion_ml > bound for bound in bounds_ml)


def _group(own: Sequence[Member], rule: SplitRule) -> str:
    size = size_group(max(m.lesion_ml for m in own), rule.sizes_ml)
    return json.dumps(
        [min(m.centre for m in own) if "centre" in rule.by else "", size if "size" in rule.by else 0],
        ensure_ascii=False,
    )


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}\n{text}".encode()).hexdigest()


def _counts(number: int, rule: SplitRule) -> dict[str, int]:
    """Persons of each side: shares rounded down, the rest to the last side; nobody is left without, if possible."""
    shares = {side: getattr(rule, side) for side in SIDES if getattr(rule, side) > 0}
    # 0.29 * 100 is 28.999999999999996.
    counts = {side: math.floor(share * number + 1e-9) for side, share in shares.items()}
    last = list(shares)[-1]
    counts[last] = number - sum(n for side, n in counts.items() if side != last)
    for side in shares:
        richest = max(counts, key=lambda s: counts[s])
        if not counts[side] and (counts[richest] > 1 or side == "train"):
            counts[richest] -= 1
            counts[side] = 1
    return {side: counts.get(side, 0) for side in SIDES}


def write_split(split: Split, path: Path) -> None:
    """Write a split whole or not at all."""
    data = {
        "format": FORMAT,
        "sha256": split.sha256,
        "rule": dict(split.rule),
        "sides": {side: list(ids) for side, ids in split.sides.items()},
        "persons": dict(split.persons),
    }
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    partial.replace(path)


def read_split(path: Path) -> Split:
    """Read a split, and see that nobody changed it.

    Raises:
        InputError: It is not there, damaged, changed, or not clean.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        split = Split({s: tuple(data["sides"][s]) for s in SIDES}, data["persons"], data["rule"])
        seen, said = split.sha256, data["sha256"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"The split '{path.name}' cannot be read.",
            f"The reason: {reason}.",
            "Make it again with 'strokeseg-train prepare'.",
        ) from error
    if seen != said:
        raise InputError(
            f"The split '{path.name}' was changed.",
            f"Its hash is {seen[:12]}, the file says {said[:12]}.",
            "Make it again with 'strokeseg-train prepare'.",
        )
    return split
