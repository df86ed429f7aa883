"""`Loader`: batches from one number on, made ahead by worker processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from strokeseg.errors import StrokeSegError
from strokeseg_training.fit.batches import Batch, TrainingBatches
from strokeseg_training.recipe_parts import Data


class Loader:
    """Batches from one number on, made ahead by worker processes; measures how long the training waits for them.

    Args:
        batches: All batches of the run.
        first: Number of the first.
        data: Says workers and prefetch.
        pinned: Keep them where a GPU fetches them fastest.

    Attributes:
        waited: Seconds so far.
    """

    def __init__(self, batches: TrainingBatches, first: int, data: Data, *, pinned: bool) -> None:
        self.waited = 0.0
        self._length = len(batches) - first
        self._loader = DataLoader(
            _Outspoken(batches),
            batch_size=None,
            sampler=range(first, len(batches)),
            num_workers=data.workers,
            prefetch_factor=data.prefetch if data.workers else None,
            worker_init_fn=_start_worker,
            pin_memory=pinned and data.workers > 0,
            # Else the loader would draw from the random numbers of the training.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self._loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - start
            if isinstance(batch, StrokeSegError):
                raise batch
            yield batch


class _Outspoken(Dataset[Batch | StrokeSegError]):
    """The batches, or the error in words: between processes only its text would be left of an exception."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Batch | StrokeSegError:
        try:
            return self._batches[number]
        except StrokeSegError as error:
            return error


def _start_worker(_: int) -> None:
    """A signal to stop goes to all processes of a terminal: the training answers it, and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
