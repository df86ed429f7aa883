"""Who looks on while something long is done, and may stop it. Standard library only."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Who is told how far a download is and may stop it; `strokeseg.events.Monitor` is one."""

    def check(self) -> None:
        """Raises `strokeseg.errors.Cancelled` when it shall stop."""
        ...

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Takes bytes that are there and bytes that there will be; may raise as `check` does."""
        ...


class Nobody:
    """A `Watcher` that neither looks nor stops."""

    def check(self) -> None:
        """Never stops."""

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Not shown."""
