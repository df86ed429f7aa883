"""What may be in a model folder, and the whole check of one. Standard library only."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from strokeseg.errors import ModelError
from strokeseg.models.card import ModelCard, ModelFile, read_card
from strokeseg.models.finite import FLOATS, file_is_finite
from strokeseg.models.graph import WEIGHTS, check_graph
from strokeseg.models.safetensors_header import StoredTensor, read_header

CARD, GRAPH = "card.json", "network.onnx"
MOST_BYTES = 2 * 1024**3
"""Of all files of a model together."""
_MOST_TEXT_BYTES = 1024**2
_TEXTS = re.compile(r"(LICEN[CS]E|NOTICE|README)(-[A-Z0-9]{1,20})?(\.(md|txt|rst))?", re.IGNORECASE | re.ASCII)
# What file managers leave in folders and put into zips; it is passed over.
_LEFTOVERS = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"}
_AGAIN = "Remove it and install it again from where it came from."


def is_leftover(name: str) -> bool:
    """Whether a file manager put a file or folder of this name there, unasked."""
    return name in _LEFTOVERS or name.startswith("._")


def most_bytes(name: str) -> int | None:
    """How large a file of this name may be in a model; None: a model has no such file."""
    if name in (WEIGHTS, GRAPH):
        return MOST_BYTES
    return _MOST_TEXT_BYTES if name == CARD or _TEXTS.fullmatch(name) else None


def refused(name: str, cause: str, next_step: str = "") -> ModelError:
    """The error for a model that is not taken in."""
    usual = f"A model has the files {CARD}, {WEIGHTS}, {GRAPH} and texts named README or LICENSE, and nothing else."
    return ModelError(f"The model '{name}' was refused.", f"{cause}.", next_step or usual)


def copy_in(source: Path, folder: Path) -> None:
    """Copy the files of a model folder into an empty one.

    Raises:
        ModelError: Something is in it that no model has, or that is too large.
        OSError: A file cannot be read or written.
    """
    files = model_files(source)
    total = sum(p.stat().st_size for p in files)
    if total > MOST_BYTES:
        raise refused(source.name, f"Its files have {total} bytes; {MOST_BYTES} are the most that is taken in")
    for path in files:
        with path.open("rb") as original, (folder / path.name).open("xb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder, sorted by name.

    Raises:
        ModelError: Something is in it that no model has, or a text that is too large.
        OSError: It cannot be read.
    """
    files = sorted(p for p in folder.iterdir() if not is_leftover(p.name))
    for path in files:
        shown = repr(path.name[:60])
        if path.is_symlink():
            raise refused(folder.name, f"{shown} is a link; its target could be any file")
        if not path.is_file():
            raise refused(folder.name, f"{shown} is {'a folder' if path.is_dir() else 'no plain file'}")
        most = most_bytes(path.name)
        if most is None:
            raise refused(folder.name, f"It holds {shown}, which is no file of a model")
        if path.stat().st_size > most:
            raise refused(folder.name, f"{shown} has {path.stat().st_size} bytes; {most} are the most")
    return files


def check_folder(folder: Path) -> ModelCard:
    """Check everything about a model that can be checked without running it.

    Returns:
        Its card.

    Raises:
        ModelError: The card is wrong, a file is missing, was changed or does not belong there, the weights are no
            safetensors or hold NaN, or the graph reads elsewhere, has foreign operators or does not fit the card.
        OSError: A file cannot be read.
    """
    card = read_card(folder)
    present = {p.name for p in model_files(folder)}
    listed = {f.name for f in card.files}
    for name in sorted(listed):
        if name == CARD or most_bytes(name) is None:
            raise refused(card.name, f"Its card lists {name!r}, which is no file that a card may vouch for")
    require_listed(card, {*_needed(card), *({WEIGHTS, GRAPH} & present)})
    compare_files(card, folder)
    weights = check_weights(folder / WEIGHTS) if WEIGHTS in listed else None
    if GRAPH in listed:
        check_graph(folder / GRAPH, weights, card.outputs)
    return card


def require_listed(card: ModelCard, names: set[str]) -> None:
    """See that the card vouches for files: one that it does not list would be read all the same.

    Raises:
        ModelError: It does not list one of them.
    """
    for name in sorted(names - {f.name for f in card.files}):
        raise refused(
            card.name,
            f"Its card does not list '{name}' under 'files', with SHA-256 and size",
            "Export the model again with 'strokeseg-train export'.",
        )


def compare_files(card: ModelCard, folder: Path) -> None:
    """Compare the files of a model with the sizes and hashes in its card.

    Raises:
        ModelError: A file is missing or was changed.
        OSError: One cannot be read.
    """
    for file in card.files:
        compare_file(card, folder, file)


def compare_file(card: ModelCard, folder: Path, file: ModelFile) -> None:
    """Compare one file of a model with its size and hash in the card.

    Raises:
        ModelError: It is missing or was changed.
        OSError: It cannot be read.
    """
    path = folder / file.name
    size = path.stat().st_size if path.is_file() else -1
    if size != file.size_bytes:
        seen = f"has {size} bytes" if size >= 0 else "is missing"
        raise _damaged(card, f"'{file.name}' {seen}; the card says {file.size_bytes} bytes.")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        raise _damaged(card, f"'{file.name}' has the SHA-256 {digest[:12]}..., not {file.sha256[:12]}...")


def check_weights(path: Path) -> dict[str, StoredTensor]:
    """See that a weights file is whole safetensors and holds finite numbers only; gives its tensors.

    Raises:
        ModelError: It is another format, cut off, of a number type that safetensors does not have, or holds NaN or
            infinity.
        OSError: It cannot be read.
    """
    tensors = read_header(path)
    for name, tensor in tensors.items():
        if tensor.kind in FLOATS and not file_is_finite(path, tensor.begin, tensor.end, tensor.kind):
            raise ModelError(
                f"The weights file '{path.name}' was refused.",
                f"{name[:60]!r} in it holds NaN or infinity: the training that it comes from has diverged.",
                "Export an earlier checkpoint of the training.",
            )
    return tensors


def _needed(card: ModelCard) -> set[str]:
    """Files that the card's runtime cannot do without."""
    if card.runtime == "openvino":
        return {GRAPH} if card.network == "graph" else {GRAPH, WEIGHTS}
    return {WEIGHTS} if card.runtime == "torch" else set()


def _damaged(card: ModelCard, cause: str) -> ModelError:
    return ModelError(f"The model '{card.name}' is damaged.", cause, _AGAIN)
