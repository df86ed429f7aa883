"""`open_model`: a model by its name or its folder, run by `strokeseg.segment` as a user of the engine runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from strokeseg.case import Case
from strokeseg.events import Monitor
from strokeseg.models import ModelCard, ModelStore
from strokeseg.models.contents import CARD, check_folder
from strokeseg.models.writing import told
from strokeseg.runtime import KeptRuntimes
from strokeseg.segmentation import Segmentation, segment


@dataclass(frozen=True)
class Model:
    """A model that is judged.

    Args:
        card: Its card, which knows its folder.
        sha256: Of the card's file, which holds the hashes of all others.
        device: It runs on.
        kept: Keeps it open from patient to patient.
    """

    card: ModelCard
    sha256: str
    device: str
    kept: KeptRuntimes

    def segment(self, case: Case, monitor: Monitor) -> Segmentation:
        """What the engine finds in a patient: with the card's own threshold, strategy and smallest lesion.

        Nothing else goes in: a case has no reference.

        Raises:
            StrokeSegError: As `strokeseg.segment`.
        """
        return segment(case, self.card, self.device, kept=self.kept, monitor=monitor)


@contextmanager
def open_model(name_or_folder: str, device: str = "auto") -> Iterator[Model]:
    """The model, ready for many patients.

    Args:
        name_or_folder: A name of ``strokeseg models list``, or a model folder, whatever it is called.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    folder = Path(name_or_folder).expanduser()
    if (folder / CARD).is_file():
        with told(folder):
            card = check_folder(folder)
    else:
        store = ModelStore()
        card, folder = store.check(name_or_folder), store.folder_of(name_or_folder)
    kept = KeptRuntimes(1)
    try:
        yield Model(card, hashlib.sha256((folder / CARD).read_bytes()).hexdigest(), device, kept)
    finally:
        kept.close()
