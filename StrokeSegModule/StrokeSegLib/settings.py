"""What the panel remembers of this computer and its user: one table of defaults over Slicer's settings.

What belongs to a study (volumes, threshold, model) is in the parameter node instead and is saved with the scene.
"""

from __future__ import annotations

from typing import Any

# Name -> default; the default's type is the setting's type.
DEFAULTS: dict[str, bool | str] = {
    "pythonExecutable": "",  # Python of the worker; "": Slicer's own
    "keepWorker": True,  # the next run imports and compiles nothing again, and its memory stays taken
    "lastInputFolder": "",
    "lastExportFolder": "",
}
_GROUP = "StrokeSeg/"


class Settings:
    """Reads and writes the settings of `DEFAULTS`.

    Args:
        store: A QSettings, or anything with its ``value``, ``setValue`` and ``remove``; None: Slicer's own, or where
            there is no Qt a memory that ends with the process.
    """

    def __init__(self, store: Any = None) -> None:
        self._store = _usersStore() if store is None else store

    def value(self, name: str) -> Any:
        """A setting, or its default when it was never set or cannot be read.

        Raises:
            KeyError: `DEFAULTS` has no such name.
        """
        default = DEFAULTS[name]
        stored = self._store.value(_GROUP + name)
        if stored is None:
            return default
        if isinstance(default, bool):
            # Files of settings hold texts.
            return {"true": True, "1": True, "false": False, "0": False}.get(str(stored).lower(), default)
        return str(stored)

    def setValue(self, name: str, value: bool | str) -> None:
        """Remember a setting.

        Raises:
            KeyError: `DEFAULTS` has no such name.
            TypeError: The value is of another type than the default.
        """
        if type(value) is not type(DEFAULTS[name]):
            raise TypeError(f"'{name}' is a {type(DEFAULTS[name]).__name__}, not {value!r}")
        self._store.setValue(_GROUP + name, value)

    def reset(self) -> None:
        """Forget everything."""
        for name in DEFAULTS:
            self._store.remove(_GROUP + name)


class _Memory:
    """Stands in for QSettings where there is no Qt."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def value(self, key: str) -> Any:
        return self._values.get(key)

    def setValue(self, key: str, value: Any) -> None:
        self._values[key] = value

    def remove(self, key: str) -> None:
        self._values.pop(key, None)


_memory = _Memory()


def _usersStore() -> Any:
    try:
        import qt
    except ImportError:
        return _memory
    return qt.QSettings()
