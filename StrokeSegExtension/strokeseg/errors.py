"""Errors written for the person who sees them: what happened, why, and what to do next.

An error is raised where the fact is known and shown once, by the panel or the command line. Imports only the
standard library.
"""

from __future__ import annotations


class StrokeSegError(Exception):
    """Base of every error that StrokeSeg raises on purpose.

    Args:
        title: What happened, one short sentence.
        cause: Why, with the numbers that were seen.
        next_step: What the reader can do now.
    """

    exit_code = 1

    def __init__(self, title: str, cause: str, next_step: str) -> None:
        super().__init__(title, cause, next_step)
        self.title = title
        self.cause = cause
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.title} {self.cause} {self.next_step}"

    def as_dict(self) -> dict[str, str | int]:
        """The three parts, the kind and the exit code, as the worker and ``--format json`` send them."""
        return {
            "kind": type(self).__name__,
            "title": self.title,
            "cause": self.cause,
            "next_step": self.next_step,
            "exit_code": self.exit_code,
        }


class InputError(StrokeSegError):
    """A file, a role or the place for the results is not usable."""

    exit_code = 3


class ModelError(StrokeSegError):
    """A model folder is missing, damaged or does not fit what it is asked for."""

    exit_code = 4


class DependencyError(StrokeSegError):
    """A library or a device that was asked for is not there."""

    exit_code = 5


class MemoryLimitError(StrokeSegError):
    """The work does not fit into the memory of the machine or the device."""

    exit_code = 6


class Cancelled(StrokeSegError):  # noqa: N818  not an error of anybody
    """The user asked to stop; nothing was left behind."""

    exit_code = 130

    def __init__(self, stage: str = "") -> None:
        super().__init__(
            "The run was cancelled.",
            f"It was stopped during the stage '{stage}'." if stage else "It was stopped before it began.",
            "Nothing was written. Start it again whenever you like.",
        )


def out_of_memory() -> MemoryLimitError:
    """What the user is told when the system refuses memory outside of a device's own library."""
    return MemoryLimitError(
        "The memory is not enough.",
        "The system refused more memory for this.",
        "Close other programs, or use smaller volumes.",
    )
