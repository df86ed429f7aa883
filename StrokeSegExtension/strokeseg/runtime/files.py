"""The files of a model before a runtime reads them: all that the store checks of them, each once a process.

The store checks what it adds, but nothing keeps a person from copying a folder to the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard, contents
from strokeseg.models.contents import GRAPH
from strokeseg.models.graph import WEIGHTS, check_graph
from strokeseg.models.safetensors_header import read_header
from strokeseg.models.writing import told

# Files that passed a check: path, modification time and size as they were then, and what the check compared with.
_PASSED: set[tuple[str, int, int, str]] = set()


def verified_files(card: ModelCard, needed: tuple[str, ...]) -> dict[str, Path]:
    """The files of a model, compared with size and SHA-256 in its card.

    Args:
        card: The model.
        needed: Files that the runtime cannot do without.

    Returns:
        Name to path of every file in the card.

    Raises:
        ModelError: The card does not list a file that is needed, or one is missing or was changed.
    """
    folder = card.folder
    if folder is None:
        raise ModelError(
            f"The model '{card.name}' has no files.",
            "Its card was not read from a model folder.",
            "Read it with 'read_card(folder)', or choose a model of 'strokeseg models list'.",
        )
    contents.require_listed(card, {*needed, *({WEIGHTS} if (folder / WEIGHTS).exists() else ())})
    with told(folder):
        for file in card.files:
            compared_with = f"{file.sha256} {file.size_bytes}"
            _once(folder / file.name, compared_with, partial(contents.compare_file, card, folder, file))
    return {file.name: folder / file.name for file in card.files}


def check_weights(path: Path) -> None:
    """See that a weights file is safetensors and holds finite numbers only.

    Raises:
        ModelError: See `strokeseg.models.contents.check_weights`; or it cannot be read.
    """
    with told(path.parent):
        _once(path, "finite", partial(contents.check_weights, path))


def check_model_graph(card: ModelCard, files: Mapping[str, Path]) -> None:
    """See that a graph reads nothing but the model's weights, before a library does.

    Raises:
        ModelError: It points elsewhere, has operators beyond ONNX's own, does not fit the card, or cannot be read.
    """

    def check() -> None:
        check_graph(files[GRAPH], read_header(files[WEIGHTS]) if WEIGHTS in files else None, card.outputs)

    with told(files[GRAPH].parent):
        _once(files[GRAPH], " ".join([*card.outputs, *(file.sha256 for file in card.files)]), check)


def _once(path: Path, compared_with: str, check: Callable[[], object]) -> None:
    """Check a file, unless it passed before and was not written since."""
    if not path.is_file():
        check()
        return
    about = path.stat()
    seen = (str(path.resolve()), about.st_mtime_ns, about.st_size, compared_with)
    if seen not in _PASSED:
        check()
        _PASSED.add(seen)
