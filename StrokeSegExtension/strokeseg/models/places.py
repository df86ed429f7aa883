"""Where the user's own models live: one rule for panel, command line and worker. Standard library only.

The rule is that of the package platformdirs (``user_data_path("strokeseg", appauthor=False)``), which Slicer need not
have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

_NAME = "strokeseg"


def user_models_folder() -> Path:
    """The folder that holds the user's models, each a folder of its own; it need not exist yet."""
    return user_data_folder() / "models"


def user_data_folder() -> Path:
    r"""The folder for everything that StrokeSeg keeps for this user.

    ``$STROKESEG_HOME`` where it is set. Else ``~/.local/share/strokeseg`` on Linux, ``~/Library/Application
    Support/strokeseg`` on macOS (both ``$XDG_DATA_HOME/strokeseg`` where that is set), ``%LOCALAPPDATA%\strokeseg`` on
    Windows.
    """
    named = os.environ.get("STROKESEG_HOME")
    return Path(named) if named else Path(_system_folder(sys.platform, os.environ, _home()))


def _system_folder(platform: str, environment: Mapping[str, str], home: str) -> PurePath:
    """The rule for a platform as `sys.platform` names it."""
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return (PureWindowsPath(local) if local else PureWindowsPath(home, "AppData", "Local")) / _NAME
    chosen = environment.get("XDG_DATA_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    if chosen.startswith("/"):
        return PurePosixPath(chosen, _NAME)
    own = ("Library", "Application Support") if platform == "darwin" else (".local", "share")
    return PurePosixPath(home, *own, _NAME)


def _home() -> str:
    if sys.platform != "win32" and not os.environ.get("HOME", "").startswith("/"):
        # Programs started by a service may have no HOME, or an empty one, which would mean the root folder.
        import pwd  # noqa: PLC0415  not on Windows

        return pwd.getpwuid(os.getuid()).pw_dir
    return str(Path.home())
