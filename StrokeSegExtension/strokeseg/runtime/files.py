"""The files of a model before a runtime reads them: present, unchanged, without code, holding numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard
from strokeseg.models.graph import check_graph
from strokeseg.models.safetensors_header import read_header

GRAPH, WEIGHTS = "network.onnx", "weights.safetensors"
_FROM_SOURCE = "Remove the model and install it again from where it came from."
# What a file was when it was found good: path, modification time, size, and what it was compared with.
_Seen = tuple[str, int, int, str]
_VERIFIED: set[_Seen] = set()
_FINITE: set[_Seen] = set()
_SAFE: set[_Seen] = set()


def verified_files(card: ModelCard, needed: tuple[str, ...]) -> dict[str, Path]:
    """The files of a model, compared with size and SHA-256 in its card; each once, until it is written anew.

    Args:
        card: The model.
        needed: Files that the runtime cannot do without.

    Returns:
        Name to path of every file in the card.

    Raises:
        ModelError: The card does not list a file that is needed, or one is missing or was changed.
    """
    if card.folder is None:
        raise ModelError(
            f"The model '{card.name}' has no files.",
            "Its card was not read from a model folder.",
            "Read it with 'read_card(folder)', or choose a model of 'strokeseg models list'.",
        )
    listed = {file.name for file in card.files}
    # Weights that nobody vouches for would be read by the graph all the same.
    wanted = {*needed, *({WEIGHTS} if (card.folder / WEIGHTS).exists() else ())}
    unlisted = sorted(wanted - listed)
    if unlisted:
        raise ModelError(
            f"The model '{card.name}' is not complete.",
            f"Its card does not list '{unlisted[0]}' under 'files', with SHA-256 and size.",
            _FROM_SOURCE,
        )
    result = {}
    for file in card.files:
        path = card.folder / file.name
        try:
            about = path.stat()
            seen = (str(path.resolve()), about.st_mtime_ns, about.st_size, file.sha256)
            if about.st_size != file.size_bytes:
                raise _damaged(card, f"'{file.name}' has {about.st_size} bytes; the card says {file.size_bytes}.")
            if seen not in _VERIFIED:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                if digest != file.sha256:
                    raise _damaged(
                        card, f"'{file.name}' has the SHA-256 {digest[:12]}..., the card says {file.sha256[:12]}..."
                    )
                _VERIFIED.add(seen)
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise _damaged(card, f"'{file.name}' {reason}.") from error
        result[file.name] = path
    return result


def check_weights(card: ModelCard, path: Path) -> None:
    """See that a weights file is safetensors and holds finite numbers only; each once, until it is written anew.

    Raises:
        ModelError: It is another format, cut off, of a number type that is not supported, or holds NaN or infinity.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  a rule needs no weights

    about = path.stat()
    seen = (str(path.resolve()), about.st_mtime_ns, about.st_size, "")
    if seen in _FINITE:
        return
    try:
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  no mapping
                kind = weights.get_slice(name).get_dtype()
                if kind not in ("F16", "F32", "F64", "I64", "I32", "U8", "BOOL"):
                    raise _damaged(card, f"'{name}' in '{path.name}' is of the type {kind}; F16 and F32 are read.")
                if kind.startswith("F") and not _all_finite(weights.get_tensor(name)):
                    raise _damaged(card, f"'{name}' in '{path.name}' holds values that are no finite numbers.")
    except SafetensorError as error:
        raise _damaged(card, f"'{path.name}' is no safetensors file ({error}); no other format is read.") from error
    _FINITE.add(seen)


def check_model_graph(card: ModelCard, files: Mapping[str, Path]) -> None:
    """See that a graph reads nothing but the model's weights, before a library does; once, until it is written anew.

    The store checks what it adds, but nothing keeps a person from copying a folder to the models.

    Raises:
        ModelError: It points elsewhere, has operators beyond ONNX's own, or does not fit the card.
    """
    about = files[GRAPH].stat()
    promises = " ".join([*card.outputs, *(file.sha256 for file in card.files)])
    seen = (str(files[GRAPH].resolve()), about.st_mtime_ns, about.st_size, promises)
    if seen not in _SAFE:
        check_graph(files[GRAPH], read_header(files[WEIGHTS]) if WEIGHTS in files else None, card.outputs)
        _SAFE.add(seen)


def _all_finite(values: np.ndarray) -> bool:
    if values.dtype == np.float16:
        # All bits of the exponent: infinity or NaN. Numpy converts every half to a float first, ten times slower.
        return not bool(((values.view(np.uint16) & 0x7C00) == 0x7C00).any())
    return bool(np.isfinite(values).all())


def _damaged(card: ModelCard, cause: str) -> ModelError:
    return ModelError(f"The model '{card.name}' is damaged.", cause, _FROM_SOURCE)
