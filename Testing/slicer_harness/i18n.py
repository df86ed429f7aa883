"""Module `slicer.i18n`: `tr` and `translate`, untranslated but marked when a test asks for it.

Names as in Slicer/Slicer Base/Python/slicer/i18n.py@60c659f.
"""

from collections.abc import Callable

MARKER: list[Callable[[str], str]] = []
"""A test may append a function here to see which texts pass through translation."""


def translate(context: str, text: str) -> str:
    """The text in the application's language: here English, or what the marker makes of it."""
    if not isinstance(context, str) or not isinstance(text, str):
        raise ValueError(f"translate() takes two texts, not {context!r} and {text!r}")
    return MARKER[-1](text) if MARKER else text


def getContext(sourceFile: str) -> str:
    """The translation context of a source file."""
    from pathlib import Path

    path = Path(sourceFile)
    inside = (path.parent / "__init__.py").is_file()
    return f"{path.parent.name}.{path.stem}" if inside else path.stem


def tr(text: str) -> str:
    """As `translate`, with the context taken from the caller's file name."""
    return translate("", text)
