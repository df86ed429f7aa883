"""A recipe's keys and values from a YAML file, with the changes of ``--set``; only their form is checked here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML brings no types

from strokeseg.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def read_recipe(name_or_file: str | Path, settings: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """Plain data of a recipe, and the file's name for messages.

    Args:
        name_or_file: One of `recipe_names`, or a path ending in ``.yaml``.
        settings: Changes as ``key=value``: dotted keys (``optimiser.lr=3e-4``, ``stages.0.steps=10``), values in YAML.

    Raises:
        InputError: There is no such recipe, it cannot be read, or a setting has another form.
    """
    path = _place(str(name_or_file))
    data = _read(path)
    for setting in settings:
        _set(data, setting)
    return data, path.name


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
