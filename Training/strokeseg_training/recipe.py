"""`Recipe`: everything that a training run needs to be made again, and how it is read from a YAML file.

Folders in a recipe are relative to the current folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]  # PyYAML brings no types
from pydantic import Field, ValidationError, model_validator

from strokeseg.errors import InputError
from strokeseg_training.recipe_errors import not_valid
from strokeseg_training.recipe_parts import (
    CardPart,
    Checkpoints,
    Data,
    Loss,
    Network,
    Optimiser,
    Part,
    Preparation,
    Schedule,
    Stage,
    Validation,
)

_PACKAGE = Path(__file__).resolve().parent


class Recipe(Part):
    """A training run.

    Attributes:
        name: Of the model: lower-case letters, digits, ``-``, ``_``, ``.``.
        task: For people, as in the card.
        seed: Of everything random in the training; the data have their own.
        batch: Patients a batch; smaller crops are padded to the largest.
        accumulation: Batches a step.
        ema_decay: Of the averaged weights, which are what is exported; 0: the last weights.
        gradient_clip: Largest norm of the gradient; 0: any.
        precision: Of the network's arithmetic; weights and loss are fp32.
        threads: Of PyTorch in the training process.
        channels_last: Another order of the network's numbers in memory: faster on some devices, same results up to
            rounding.
        log_every: Steps a row of the log, which holds means over them.
    """

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")
    title: str
    task: str
    seed: int = Field(default=0, ge=0)
    network: Network
    preparation: Preparation
    data: Data
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    batch: int = Field(default=1, ge=1)
    accumulation: int = Field(default=1, ge=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    gradient_clip: float = Field(default=5.0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    threads: int = Field(default=2, ge=1)
    channels_last: bool = False
    log_every: int = Field(default=10, ge=1)
    tensorboard: bool = True
    validation: Validation
    checkpoint: Checkpoints = Checkpoints()
    stages: tuple[Stage, ...] = Field(min_length=1)
    card: CardPart

    @model_validator(mode="before")
    @classmethod
    def _complete_stages(cls, data: Any) -> Any:
        """Each stage with the recipe's own loss and data where it does not change them."""
        if not isinstance(data, Mapping) or not isinstance(data.get("stages"), list | tuple):
            return data
        stages = [
            {**s, **{k: _changed(data.get(k, {}), s.get(k, {})) for k in ("loss", "data")}}
            if isinstance(s, Mapping)
            else s
            for s in data["stages"]
        ]
        return {**data, "stages": stages}

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(s.steps for s in self.stages)

    def stage_at(self, step: int) -> int:
        """Index of the stage to which a step (from 0) belongs; steps beyond the end belong to the last."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.steps
            if step < end:
                return index
        return len(self.stages) - 1

    def as_data(self) -> dict[str, Any]:
        """Plain data that `Recipe.model_validate` takes back."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The whole recipe, every default said."""
        return yaml.safe_dump(self.as_data(), sort_keys=False, allow_unicode=True, width=120)

    @property
    def sha256(self) -> str:
        """Of everything that the recipe says."""
        text = json.dumps(self.as_data(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(name_or_file: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """A recipe by its name or from a YAML file.

    Args:
        name_or_file: One of `recipe_names`, or a path ending in ``.yaml``.
        settings: Changes as ``key=value``: dotted keys (``optimiser.lr=3e-4``, ``stages.0.steps=10``), values in YAML.

    Raises:
        InputError: There is no such recipe, it cannot be read, or a key or value is wrong.
    """
    path = _place(str(name_or_file))
    data = _read(path)
    for setting in settings:
        _set(data, setting)
    return recipe_of(data, path.name)


def recipe_of(data: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain data; `where` names it in messages.

    Raises:
        InputError: A key is unknown or missing, or its value is wrong.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise not_valid(error, Recipe, where) from error


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(p.stem for p in _folder().glob("*.yaml"))


def _folder() -> Path:
    """The recipes in an installed wheel, or in a checkout."""
    installed = _PACKAGE / "_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def _place(name: str) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise InputError(
                f"There is no recipe '{path.name}'.", f"'{path}' is no file.", "Give the path of a YAML file."
            )
        return path
    known = recipe_names()
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        raise InputError(
            f"There is no recipe '{name}'.",
            "These come with the package: " + (", ".join(known) or "none") + "; own ones are files ending in .yaml.",
            f"Did you mean '{near[0]}'?" if near else "Choose one of them, or give the path of a file.",
        )
    return _folder() / f"{name}.yaml"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which 1e-3 is a number and a key stands once."""


# PyYAML follows YAML 1.1, where a number in powers of ten needs a dot and a sign.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping_without_repetition(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping = loader.construct_mapping(node, deep=True)
    if len(mapping) < len(node.value):
        keys = [str(k.value) for k, _ in node.value]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise yaml.constructor.ConstructorError(
            problem=f"the key '{twice}' stands there twice", problem_mark=node.start_mark
        )
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repetition)


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader


def _read(path: Path) -> dict[str, Any]:
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"The recipe '{path.name}' cannot be read.", f"The reason: {reason}.", "Correct it; a recipe is YAML text."
        ) from error
    if not isinstance(data, dict):
        raise InputError(
            f"The recipe '{path.name}' cannot be read.",
            f"It holds a {type(data).__name__}, not keys with values.",
            "Start from one of the recipes that come with the package: " + ", ".join(recipe_names()) + ".",
        )
    return data


def _set(data: dict[str, Any], setting: str) -> None:
    """Apply ``a.b.0.c=value``; that the key exists is checked with the recipe as a whole."""
    key, equals, text = setting.partition("=")
    wrong = InputError(
        f"The setting '{setting}' cannot be used.",
        "Expected is KEY=VALUE with a dotted key.",
        "Example: --set optimiser.lr=3e-4",
    )
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise wrong
    try:
        value = _parse(text)
        place: Any = data
        for part in parts[:-1]:
            # A part that the recipe leaves at its defaults, or a term that it gives as a bare number.
            if isinstance(place, dict) and not isinstance(place.get(part), dict | list):
                number = place.get(part)
                place[part] = {} if number is None else {"weight": number}
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(parts[-1])] = value
        else:
            place[parts[-1]] = value
    except (IndexError, ValueError, yaml.YAMLError) as error:
        raise wrong from error


def _changed(base: Any, changes: Any) -> Any:
    """`base` with single keys replaced, at any depth.

    One source of data replaces the other, and a bare number changes only the weight of a term.
    """
    if isinstance(base, Mapping) and isinstance(changes, int | float):
        return {**base, "weight": changes}
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    sources = {"generator", "bank"}
    if sources & {k for k, v in changes.items() if v is not None}:
        base = {k: v for k, v in base.items() if k not in sources - set(changes)}
    return {**base, **{k: _changed(base[k], v) if k in base else v for k, v in changes.items()}}
