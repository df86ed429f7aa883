"""`KeptRuntimes`: what a process that stays keeps open, so that a second run imports and compiles nothing again."""

from __future__ import annotations

import json

from strokeseg.models import ModelCard
from strokeseg.runtime.base import Runtime
from strokeseg.runtime.choice import open_runtime
from strokeseg.runtime.files import verified_files

_RUNTIMES = 2


class KeptRuntimes:
    """The runtimes used last, by model and options.

    Args:
        limit: More are closed, those longest not used first.
    """

    def __init__(self, limit: int = _RUNTIMES) -> None:
        self._limit = limit
        self._open: dict[str, Runtime] = {}

    def open(
        self,
        card: ModelCard,
        device: str = "auto",
        *,
        runtime: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> Runtime:
        """As `open_runtime`, or the one that is open already; it belongs to this object and is not to be closed.

        Raises:
            StrokeSegError: As `open_runtime`; a model whose files were changed meanwhile is refused, too.
        """
        key = json.dumps(
            [
                str(card.folder),
                [(file.name, file.sha256) for file in card.files],
                [card.network, card.network_arguments, card.preparation.channels, card.outputs, card.input_shape],
                [device, runtime, precision, threads],
            ],
            sort_keys=True,
        )
        if key in self._open:
            if card.files:
                verified_files(card, ())
            found = self._open.pop(key)
        else:
            # Room first: two networks need not fit into a GPU at a time.
            while len(self._open) >= self._limit:
                self._open.pop(next(iter(self._open))).close()
            found = open_runtime(card, device, runtime=runtime, precision=precision, threads=threads)
        self._open[key] = found
        return found

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
