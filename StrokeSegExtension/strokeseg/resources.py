"""Where the files live that are shared by engine, panel and training: one function, the four places they can be.

Imports only the standard library and `strokeseg.errors`.
"""

from __future__ import annotations

import os
from pathlib import Path

from strokeseg.errors import DependencyError

_PACKAGE = Path(__file__).resolve().parent


def resource_path(*parts: str) -> Path:
    """Path of a shared resource, e.g. ``resource_path("Models", "adc-threshold")``.

    ``$STROKESEG_RESOURCES`` holds all resources where it is set (CMake's build tree does); else the first of these that
    exists: ``strokeseg/_resources`` (an installed wheel), ``Resources`` beside the package (an installed extension),
    ``../../Resources`` (a checkout).

    Raises:
        DependencyError: No place holds resources, or `parts` name a thing that is not there.
    """
    root = resources_root()
    path = root.joinpath(*parts)
    if not path.exists():
        raise DependencyError(
            "A file that belongs to StrokeSeg is missing.",
            f"'{'/'.join(parts)}' is not in the resources folder.",
            "Install StrokeSeg again; from a checkout, restore the Resources folder with 'git checkout Resources'.",
        )
    return path


def resources_root() -> Path:
    """The folder that holds ``Models``, ``Samples`` and ``Terminologies``."""
    named = os.environ.get("STROKESEG_RESOURCES")
    beside = [_PACKAGE / "_resources", _PACKAGE.parent / "Resources", _PACKAGE.parent.parent / "Resources"]
    # A place that was named and is wrong must not be replaced by another one in silence.
    places = [Path(named)] if named else beside
    for place in places:
        if (place / "Models").is_dir():
            return place
    raise DependencyError(
        "The resources of StrokeSeg were not found.",
        "None of the places where they can be has a 'Models' folder: " + ", ".join(str(p) for p in places) + ".",
        "Install StrokeSeg again, or point STROKESEG_RESOURCES to the Resources folder of a checkout.",
    )
