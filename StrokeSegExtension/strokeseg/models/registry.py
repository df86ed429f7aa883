"""Models that can be downloaded: the list that comes with StrokeSeg, and the way from it into the user's store.

Nothing here opens a connection but `fetch`. Standard library only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from strokeseg.errors import ModelError
from strokeseg.models.card import ModelCard
from strokeseg.models.contents import MOST_BYTES
from strokeseg.models.fields import Fields
from strokeseg.models.names import model_name
from strokeseg.models.store import ModelStore
from strokeseg.models.watcher import Nobody, Watcher
from strokeseg.models.writing import locked, told
from strokeseg.resources import resource_path

FORMAT = 1
DOWNLOADS = ".downloads"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Offer:
    """A model that can be downloaded: a zip, of which size and SHA-256 are known beforehand."""

    name: str
    title: str
    url: str
    size_bytes: int
    sha256: str


def offers(registry: Path | None = None) -> list[Offer]:
    """The models that can be downloaded, in order of their names.

    Args:
        registry: The list; None: the one that comes with StrokeSeg.

    Raises:
        ModelError: The list is wrong.
    """
    path = registry if registry is not None else resource_path("Models", "registry.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        fields = Fields(data, "registry", "registry")
        version = fields.whole("format", 1, 10**6)
        if version > FORMAT:
            raise _wrong(f"It has format {version}, this version reads format {FORMAT}.")
        found = [_offer(Fields(v, f"models[{i}]", "registry")) for i, v in enumerate(fields.items("models"))]
        fields.done()
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(f"'{path.name}' cannot be read: {type(error).__name__}.") from error
    except ModelError as error:
        raise _wrong(error.cause) from error
    names = [o.name for o in found]
    if len(set(names)) < len(names):
        raise _wrong(f"It names '{next(n for n in names if names.count(n) > 1)}' twice.")
    return sorted(found, key=lambda o: o.name)


def fetch(
    name: str,
    store: ModelStore | None = None,
    monitor: Watcher | None = None,
    *,
    registry: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ModelCard:
    """Download a model and add it to the user's own.

    A download that was cancelled or interrupted, also by a full disk, stays as a file ``.part`` in the folder
    ``.downloads`` of the user's models, and the next `fetch` goes on with it.

    Args:
        name: Of one of the `offers`.
        store: Where to; None: the user's own.
        monitor: Told of the progress; may cancel.
        registry: The list of models; None: the one that comes with StrokeSeg.
        sleep: Waits between attempts.

    Returns:
        The card of the model.

    Raises:
        ModelError: There is no such offer, the model is there already, the server cannot be reached or sends another
            file, or what it sent is no model.
        Cancelled: The monitor asked to stop.
    """
    store = store or ModelStore()
    offer = _named(name, offers(registry))
    if name in store.names():
        raise ModelError(
            f"There is a model '{name}' already.",
            "Nothing was downloaded.",
            f"Try it with 'strokeseg models verify {name}'; to download it again, remove it first.",
        )
    from strokeseg.models.download import Download  # noqa: PLC0415  the HTTP modules take time to load

    folder = store.writable_folder() / DOWNLOADS
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{name}.lock", f"Another process is downloading the model '{name}'."):
            part = folder / f"{name}-{offer.sha256[:16]}.zip.part"
            _delete_others(folder, name, part)
            Download(name, offer.url, part, offer.size_bytes, offer.sha256, monitor or Nobody(), sleep).run()
            try:
                return store.add(part, name)
            finally:
                # Whole, and as the list says: if it was refused, the next download would be, too.
                part.unlink(missing_ok=True)


def _offer(fields: Fields) -> Offer:
    offer = Offer(
        name=model_name(fields),
        title=fields.text("title"),
        url=fields.text("url"),
        size_bytes=fields.whole("size_bytes", 1, MOST_BYTES),
        sha256=fields.text("sha256"),
    )
    fields.done()
    if not _SHA256.fullmatch(offer.sha256):
        raise fields.wrong("sha256", "64 hexadecimal digits", offer.sha256)
    return offer


def _wrong(cause: str) -> ModelError:
    return ModelError("The list of downloadable models is not valid.", cause, "Install StrokeSeg again, or update it.")


def _named(name: str, found: list[Offer]) -> Offer:
    for offer in found:
        if offer.name == name:
            return offer
    names = [o.name for o in found]
    near = get_close_matches(name, names, n=1)
    raise ModelError(
        f"There is no model '{name}' to download.",
        f"These can be downloaded: {', '.join(names) or 'none'}.",
        f"Did you mean '{near[0]}'?"
        if near
        else "Choose one of 'strokeseg models list'; a model that you have as a folder or zip is added with "
        "'strokeseg models add'.",
    )


def _delete_others(folder: Path, name: str, part: Path) -> None:
    """Delete what was begun of earlier versions of a model: nothing will go on with it."""
    for path in folder.glob(f"{name}-*.part"):
        if path != part and re.fullmatch(re.escape(name) + r"-[0-9a-f]{16}\.zip\.part", path.name):
            with suppress(OSError):
                path.unlink()
