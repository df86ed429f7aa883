"""`ModelCard`: everything the engine must know to run a model, and everything a reader must know to trust it.

A card is the file ``card.json`` of a model folder, format 1. Standard library only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strokeseg.errors import ModelError
from strokeseg.models.channels import CHANNEL_ROLES
from strokeseg.models.decision import Decision, parse_decision
from strokeseg.models.fields import Fields
from strokeseg.models.names import is_model_name, model_name
from strokeseg.models.roles import INPUT_ROLES

FORMAT = 1
RUNTIMES = ("threshold", "openvino", "torch")
STRATEGIES = ("whole", "windows", "slices", "proposals")
OUTPUTS = {"lesion", "tissue"}
# Nothing that any file system takes for a folder, a drive, a device or a hidden file.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelInput:
    """A volume that the model takes: its role, and whether the model works without it."""

    role: str
    required: bool


@dataclass(frozen=True)
class Preparation:
    """How the volumes become the model's input.

    Attributes:
        spacing_mm: Grid spacing along (R, A, S), 0 for the scan's own along an axis; None keeps the scan's own grid.
        margin_voxels: Voxels kept free around the brain.
        multiple: Every axis is padded to a multiple of this.
        channels: Names of the input channels in order, see `strokeseg.prepare.channels`.
    """

    spacing_mm: tuple[float, float, float] | None
    margin_voxels: int
    multiple: int
    channels: tuple[str, ...]


@dataclass(frozen=True)
class LesionClass:
    """A label of the mask and what it means, in a coded terminology."""

    value: int
    name: str
    coding_scheme: str
    code: str
    meaning: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class ModelFile:
    """A file of the model folder that must not change."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ModelCard:
    """A model, completely described. The fields are those of ``card.json``; `docs/models.md` explains each.

    Attributes:
        network: Name of one of our networks, ``monai:Class``, ``graph`` (only a graph), or a rule's name.
        outputs: Names of the network's outputs in order.
        input_shape: Voxels (x, y, z) of a network that takes only one size; None: any.
        runtime_reason: Why it runs there: how far its graph was from PyTorch, or why it has none; "" if not said.
        window: Voxels of a window where the model wants windows.
        overlap: Share of a window that neighbours overlap.
        folder: Where the card was read from.
    """

    name: str
    title: str
    version: str
    status: str
    task: str
    inputs: tuple[ModelInput, ...]
    reference_role: str
    preparation: Preparation
    network: str
    network_arguments: dict[str, Any]
    outputs: tuple[str, ...]
    input_shape: tuple[int, int, int] | None
    runtime: str
    runtime_reason: str
    strategy: str
    window: tuple[int, int, int] | None
    overlap: float
    classes: tuple[LesionClass, ...]
    decision: Decision
    temperature: float
    minimum_lesion_ml: float
    files: tuple[ModelFile, ...]
    origin: dict[str, Any]
    measured: tuple[dict[str, Any], ...]
    intended_use: str
    limits: tuple[str, ...]
    folder: Path | None = field(default=None, compare=False)

    @property
    def required_roles(self) -> tuple[str, ...]:
        """Roles without which the model does not run."""
        return tuple(i.role for i in self.inputs if i.required)

    @property
    def optional_roles(self) -> tuple[str, ...]:
        """Roles that the model uses when they are there."""
        return tuple(i.role for i in self.inputs if not i.required)


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder.

    Raises:
        ModelError: There is no card, it is no JSON, or a field is wrong.
    """
    path = folder / "card.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
    except FileNotFoundError as error:
        raise ModelError(
            f"'{folder.name}' is not a model.",
            "The folder has no card.json.",
            "Name a model of 'strokeseg models list', or a folder that has a card.json.",
        ) from error
    except OSError as error:
        raise _unreadable(folder, f"card.json cannot be opened: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        seen = str(error) if isinstance(error, json.JSONDecodeError | _RepeatedFieldError) else type(error).__name__
        raise _unreadable(folder, f"card.json is not valid JSON text: {seen}.") from error
    return parse_card(data, folder)


class _RepeatedFieldError(ValueError):
    """A field that an object has twice: a reader would see one, the program take the other."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedFieldError(f"the field {next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return fields


def _unreadable(folder: Path, cause: str) -> ModelError:
    return ModelError(
        f"The card of the model '{folder.name}' cannot be read.",
        cause,
        "Restore the model folder from where it came from.",
    )


def parse_card(data: Any, folder: Path | None = None) -> ModelCard:
    """A card from its JSON data; every field is checked and unknown ones are refused.

    Raises:
        ModelError: Names the field, what was expected and what was found.
    """
    name = data.get("name") if isinstance(data, dict) else None
    known = isinstance(name, str) and is_model_name(name)
    fields = Fields(data, "", str(name) if known else (folder.name if folder else "?"))
    version = fields.whole("format", 1, 10**6)
    if version > FORMAT:
        raise ModelError(
            f"The model '{fields.card}' was made for a newer StrokeSeg.",
            f"Its card has format {version}, this version reads format {FORMAT}.",
            "Update StrokeSeg, or use an older version of the model.",
        )
    card = ModelCard(
        name=model_name(fields),
        title=fields.text("title"),
        version=fields.text("version"),
        status=fields.choice("status", ("default", "experimental", "baseline"), "experimental"),
        task=fields.text("task"),
        inputs=tuple(_input(f) for f in fields.parts("inputs")),
        reference_role=fields.choice("reference_role", INPUT_ROLES),
        preparation=_preparation(fields.part("preparation")),
        network=fields.text("network"),
        network_arguments=fields.mapping("network_arguments", {}),
        outputs=fields.texts("outputs", ["lesion"]),
        input_shape=_shape(fields, "input_shape"),
        runtime=fields.choice("runtime", RUNTIMES),
        runtime_reason=fields.text("runtime_reason", ""),
        strategy=fields.choice("strategy", STRATEGIES),
        window=_shape(fields, "window"),
        overlap=fields.number("overlap", 0.0, 0.9, 0.25),
        classes=tuple(_lesion_class(f) for f in fields.parts("classes")),
        decision=parse_decision(fields.part("decision")),
        temperature=fields.number("temperature", 0.05, 20.0, 1.0),
        minimum_lesion_ml=fields.number("minimum_lesion_ml", 0.0, 100.0),
        files=tuple(_file(Fields(v, f"files[{i}]", fields.card)) for i, v in enumerate(fields.items("files"))),
        origin=fields.mapping("origin"),
        measured=fields.mappings("measured"),
        intended_use=fields.text("intended_use"),
        limits=fields.texts("limits"),
        folder=folder,
    )
    fields.done()
    _consistent(card, fields)
    return card


def _matching(fields: Fields, field_name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = fields.text(field_name)
    if not pattern.fullmatch(value):
        raise fields.wrong(field_name, expected, value)
    return value


def _input(fields: Fields) -> ModelInput:
    result = ModelInput(fields.choice("role", INPUT_ROLES), fields.flag("required"))
    fields.done()
    return result


def _preparation(fields: Fields) -> Preparation:
    spacing = fields.items("spacing_mm", [])
    numbers = [
        v for v in spacing if isinstance(v, int | float) and not isinstance(v, bool) and (v == 0 or 0.2 <= v <= 10)
    ]
    if len(numbers) != len(spacing) or len(spacing) not in (0, 3):
        expected = (
            "three numbers from 0.2 to 10, 0 for the scan's own spacing along an axis, or an empty list for its grid"
        )
        raise fields.wrong("spacing_mm", expected, spacing)
    channels = fields.texts("channels")
    if not channels:
        raise fields.wrong("channels", "at least one channel", channels)
    result = Preparation(
        spacing_mm=(float(numbers[0]), float(numbers[1]), float(numbers[2])) if numbers else None,
        margin_voxels=fields.whole("margin_voxels", 0, 64),
        multiple=fields.whole("multiple", 1, 128),
        channels=channels,
    )
    fields.done()
    return result


def _shape(fields: Fields, name: str) -> tuple[int, int, int] | None:
    """Three numbers of voxels, or None for an empty list or an absent field."""
    sizes = fields.items(name, [])
    whole = [v for v in sizes if isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= 2048]
    if len(whole) != len(sizes) or len(sizes) not in (0, 3):
        raise fields.wrong(name, "three whole numbers from 1 to 2048, or an empty list", sizes)
    return (whole[0], whole[1], whole[2]) if whole else None


def _lesion_class(fields: Fields) -> LesionClass:
    colour = fields.items("colour")
    if len(colour) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in colour):
        raise fields.wrong("colour", "three whole numbers from 0 to 255", colour)
    result = LesionClass(
        value=fields.whole("value", 1, 255),
        name=fields.text("name"),
        coding_scheme=fields.text("coding_scheme"),
        code=fields.text("code"),
        meaning=fields.text("meaning"),
        colour=(colour[0], colour[1], colour[2]),
    )
    fields.done()
    return result


def _file(fields: Fields) -> ModelFile:
    name = fields.text("name")
    if not _FILE_NAME.fullmatch(name):
        raise fields.wrong("name", "the plain name of a file of the model folder", name)
    result = ModelFile(
        name, _matching(fields, "sha256", _SHA256, "64 hexadecimal digits"), fields.whole("size_bytes", 0, 2**40)
    )
    fields.done()
    return result


def _consistent(card: ModelCard, fields: Fields) -> None:
    """What no single field can say."""
    roles = [i.role for i in card.inputs]
    if len(set(roles)) != len(roles):
        raise fields.wrong("inputs", "every role once", roles)
    if card.reference_role not in card.required_roles:
        raise fields.wrong("reference_role", "one of the required inputs", card.reference_role)
    _possible_channels(card, fields)
    names = [f.name for f in card.files]
    if len(set(names)) != len(names):
        raise fields.wrong("files", "every file once", names)
    values = [c.value for c in card.classes]
    if values != list(range(1, len(values) + 1)):
        raise fields.wrong("classes", "values 1, 2, 3, ... in order", values)
    if "lesion" not in card.outputs or not set(card.outputs) <= OUTPUTS or len(set(card.outputs)) != len(card.outputs):
        raise fields.wrong("outputs", "'lesion', and 'tissue' where the network has it, once each", list(card.outputs))
    if card.decision.rule != "argmax" and len(values) != 1:
        raise fields.wrong("decision.rule", "'argmax' for a model with several classes", card.decision.rule)


def _possible_channels(card: ModelCard, fields: Fields) -> None:
    """Channels that exist, made of inputs that are there whenever the model runs."""
    # A rule may know what to do without an image. A network would compute on: OpenVINO takes what is no number for 0.
    roles = card.required_roles + (card.optional_roles if card.runtime == "threshold" else ())
    for channel in card.preparation.channels:
        if channel not in CHANNEL_ROLES:
            known = ", ".join(f"'{c}'" for c in CHANNEL_ROLES)
            raise fields.wrong("preparation.channels", f"channels that this version can make: {known}", channel)
        role = CHANNEL_ROLES[channel]
        if role is not None and role not in roles:
            raise fields.wrong("preparation.channels", f"'{role}' among the required inputs", channel)
