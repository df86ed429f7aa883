"""`open_model`: a model by its name or its folder, run by `strokeseg.segment` as a user of the engine runs it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from strokeseg.case import Case
from strokeseg.events import Monitor
from strokeseg.models import ModelCard, ModelStore, read_card
from strokeseg.models.contents import CARD, check_folder, copy_in
from strokeseg.models.writing import told
from strokeseg.runtime import KeptRuntimes
from strokeseg.segmentation import Segmentation, segment

_HOME = "STROKESEG_HOME"
_NAME = "under-evaluation"


@dataclass(frozen=True)
class Model:
    """A model that is judged.

    Args:
        card: Its card.
        sha256: Of the card's file, which holds the hashes of all others.
        device: It runs on.
        name: Under which the engine finds it.
        home: Stands for the user's folder while it runs; None: the user's own.
        kept: Keeps it open from patient to patient.
    """

    card: ModelCard
    sha256: str
    device: str
    name: str
    home: Path | None
    kept: KeptRuntimes

    def segment(self, case: Case, monitor: Monitor) -> Segmentation:
        """What the engine finds in a patient: with the card's own threshold, strategy and smallest lesion.

        Nothing else goes in: a case has no reference.

        Raises:
            StrokeSegError: As `strokeseg.segment`.
        """
        with _home_at(self.home):
            return segment(case, self.name, self.device, kept=self.kept, monitor=monitor)


@contextmanager
def open_model(name_or_folder: str, device: str = "auto") -> Iterator[Model]:
    """The model, ready for many patients.

    Args:
        name_or_folder: A name of ``strokeseg models list``, or a model folder.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    kept = KeptRuntimes(1)
    try:
        folder = Path(name_or_folder).expanduser()
        if not (folder / CARD).is_file():
            store = ModelStore()
            card = store.check(name_or_folder)
            yield Model(card, _sha256(store.folder_of(card.name)), device, card.name, None, kept)
            return
        with told(folder):
            check_folder(folder)
        with tempfile.TemporaryDirectory(prefix="strokeseg-evaluate-") as home:
            _stand_in(folder, Path(home))
            yield Model(read_card(folder), _sha256(folder), device, _NAME, Path(home), kept)
    finally:
        kept.close()


def _stand_in(folder: Path, home: Path) -> None:
    """A copy under a name that no other model has: the engine knows models by names, and bundled ones come first."""
    place = home / "models" / _NAME
    place.mkdir(parents=True)
    copy_in(folder, place)
    fields = json.loads((place / CARD).read_text(encoding="utf-8"))
    (place / CARD).write_text(json.dumps({**fields, "name": _NAME}), encoding="utf-8")


@contextmanager
def _home_at(home: Path | None) -> Iterator[None]:
    if home is None:
        yield
        return
    before = os.environ.get(_HOME)
    os.environ[_HOME] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_HOME]
        else:
            os.environ[_HOME] = before


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / CARD).read_bytes()).hexdigest()
