"""Whether a model knew the patients that it is judged by: what its card says of its training, against a split.

A card names patients in one of three ways, anywhere below ``origin``, each beside the hash of the split
(``split_sha256``): by that hash alone; by ``sides``, the ids of each side; by ``images``, marks of each side's
images, which also find a patient who carries another name elsewhere. `training_marks` gives the last, which tells
nobody's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from strokeseg.errors import InputError
from strokeseg_training.datasets import Split
from strokeseg_training.datasets.splits import SIDES
from strokeseg_training.prepare.prepared_set import PreparedSet

Verdict = Literal["not seen", "chose the model", "seen", "cannot be told", "no real patients named"]
MARK_DIGITS = 16


@dataclass(frozen=True)
class Seen:
    """What is known.

    Attributes:
        verdict: In words; the worst that is true of one patient.
        trained_on: Ids of the side that were in the model's training.
        chosen_by: Ids of the side that were in its validation, where the checkpoint was chosen.
        sentence: For whoever reads the result.
    """

    verdict: Verdict
    trained_on: tuple[str, ...]
    chosen_by: tuple[str, ...]
    sentence: str


def mark(sha256: str) -> str:
    """The short name of an image: the beginning of the SHA-256 of its file."""
    return sha256[:MARK_DIGITS]


def training_marks(prepared: PreparedSet, role: str) -> dict[str, Any]:
    """What the card of a model that was trained on a prepared set says of its patients, without their names.

    Args:
        prepared: The set.
        role: Of the image that stands for a patient: the recipe's ``reference_role``.
    """
    images = {
        side: sorted(mark(p.facts["sources"][role]["sha256"]) for p in prepared.patients if p.side == side)
        for side in SIDES
    }
    return {"split_sha256": prepared.split.sha256, "images": images}


def look_for_seen(
    origin: Mapping[str, Any], split: Split, side: Sequence[str], marks: Callable[[], Mapping[str, str]]
) -> Seen:
    """Compare.

    Args:
        origin: Of the model's card.
        split: Of the data set at hand.
        side: Ids of those who are judged.
        marks: Gives the mark of each patient of the data set by id; asked only where the card has marks.
    """
    mentions = list(_mentions(origin))
    trained_on = [_known(m, "train", split, marks) for m in mentions]
    chosen_by = [_known(m, "val", split, marks) for m in mentions]
    trained, chosen = (_of_side(found, split, side) for found in (trained_on, chosen_by))
    if trained:
        sentence = f"{_people(trained, side)} in the model's training: the figures say nothing about new patients."
        return Seen("seen", trained, chosen, sentence)
    if any(found is None for found in trained_on):
        sentence = (
            "The model was trained on patients of another split, and its card does not say which: it cannot be told "
            "whether they were these."
        )
        return Seen("cannot be told", (), chosen, sentence)
    if chosen:
        sentence = (
            f"{_people(chosen, side)} in the model's validation, by which its checkpoint was chosen: the figures are "
            "better than those of new patients."
        )
        return Seen("chose the model", (), chosen, sentence)
    if not mentions:
        sentence = "The model's card names no split of real patients; what it was trained on must be read there."
        return Seen("no real patients named", (), (), sentence)
    return Seen("not seen", (), (), "By its card, the model was trained on none of these patients.")


def refuse_seen(seen: Seen, *, allowed: bool) -> None:
    """Refuse to judge a model by what it was, or may have been, trained on.

    Raises:
        InputError: It is so, and was not asked for.
    """
    if allowed or seen.verdict not in ("seen", "cannot be told"):
        return
    named = f" They are: {_shown(seen.trained_on)}." if seen.trained_on else ""
    raise InputError(
        "The model cannot be judged by these patients.",
        seen.sentence + named,
        "Choose the side 'test' of the split that the model was trained with; or add --even-if-seen, and every result "
        "will say so.",
    )


def _mentions(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every part of an origin that names a split."""
    if isinstance(value, Mapping):
        if "split_sha256" in value:
            yield value
        for inner in value.values():
            yield from _mentions(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _mentions(inner)


def _known(
    mention: Mapping[str, Any], side: str, split: Split, marks: Callable[[], Mapping[str, str]]
) -> set[str] | None:
    """Ids of this data set that a mention has on a side; None where it does not tell."""
    if mention["split_sha256"] == split.sha256:
        return set(split.sides[side])
    ids, images = mention.get("sides"), mention.get("images")
    if isinstance(ids, Mapping):
        return set(ids.get(side, ())) & set(split.persons)
    if isinstance(images, Mapping):
        theirs = {mark(str(m)) for m in images.get(side, ())}
        return {name for name, own in marks().items() if own in theirs}
    return None


def _of_side(found: Sequence[set[str] | None], split: Split, side: Sequence[str]) -> tuple[str, ...]:
    """Those of the side who are among the found, or of whom another examination is."""
    persons = {split.persons[name] for ids in found if ids for name in ids}
    return tuple(name for name in side if split.persons[name] in persons)


def _people(found: Sequence[str], side: Sequence[str]) -> str:
    if len(found) == len(side):
        return f"All {len(side)} patients were" if len(side) > 1 else "The one patient was"
    return f"{len(found)} of the {len(side)} patients {'was' if len(found) == 1 else 'were'}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
