"""Module `slicer.packaging` (Slicer 5.12 and newer): checks what is installed, never installs anything.

Names and parameters as in Slicer/Slicer Base/Python/slicer/packaging.py@2ed8f2b.
"""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

REQUESTS: list[tuple[str, list[str]]] = []
"""Every installation asked for, in order: function and requirements."""


class InstallationRefusedError(RuntimeError):
    """A test ran into a real installation."""


def _list(requirements: Any) -> list[Any]:
    from packaging.requirements import Requirement

    if isinstance(requirements, str):
        requirements = [requirements] if ";" in requirements else requirements.split()
    elif not isinstance(requirements, list):
        requirements = [requirements]
    return [Requirement(str(r)) for r in requirements]


def load_requirements(path: str | Path) -> list[Any]:
    """Requirements of a requirements.txt, without comments and options."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return _list([line for line in lines if line and not line.startswith(("#", "-"))])


def load_pyproject_dependencies(path: str | Path) -> list[Any]:
    """`[project.dependencies]` of a pyproject.toml."""
    return _list(tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"].get("dependencies", []))


def pip_check(req: Any) -> bool:
    """True where every requirement is satisfied."""
    for requirement in _list(req):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            if importlib.metadata.version(requirement.name) not in requirement.specifier:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def pip_ensure(
    requirements: Any,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Nothing where all is there or tests run; an installation is refused."""
    import slicer

    missing = [str(r) for r in _list(requirements) if not pip_check(str(r))]
    if not missing:
        return None
    REQUESTS.append(("pip_ensure", missing))
    if skip_in_testing and slicer.app.testingEnabled():
        return None
    raise InstallationRefusedError(f"pip_ensure() would install {missing}")


def pip_install(requirements: Any, **options: Any) -> None:
    """Refused, and noted."""
    REQUESTS.append(("pip_install", [str(requirements)]))
    raise InstallationRefusedError(f"pip_install() would install {requirements}")


def pip_uninstall(requirements: Any, **options: Any) -> None:
    """Refused, and noted."""
    REQUESTS.append(("pip_uninstall", [str(requirements)]))
    raise InstallationRefusedError(f"pip_uninstall() would remove {requirements}")
