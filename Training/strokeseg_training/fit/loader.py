"""`Loader`: batches from one number on, made ahead by worker processes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from strokeseg.errors import StrokeSegError
from strokeseg_training.fit.batches import Batch, TrainingBatches
from strokeseg_training.fit.workers import start_worker, starting, worker_context
from strokeseg_training.recipe_parts import Data


class Loader:
    """Batches from one number on, made ahead by worker processes; measures how long the training waits for them.

    Args:
        batches: All batches of the run.
        first: Number of the first.
        data: Says workers and prefetch.
        pinned: Keep them where a GPU fetches them fastest.

    Attributes:
        waited: Seconds so far, without those for the first batch where somebody looked at it before.
    """

    def __init__(self, batches: TrainingBatches, first: int, data: Data, *, pinned: bool) -> None:
        self.waited = 0.0
        self._length = len(batches) - first
        self._batches = _Outspoken(batches)
        self._first: list[Batch] = []
        self._running: Iterator[Batch | StrokeSegError] | None = None
        self._loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=range(first, len(batches)),
            num_workers=data.workers,
            prefetch_factor=data.prefetch if data.workers else None,
            worker_init_fn=start_worker(),
            pin_memory=pinned and data.workers > 0,
            # Else the loader would draw from the random numbers of the training.
            generator=torch.Generator(),
            multiprocessing_context=worker_context() if data.workers else None,
        )

    def __len__(self) -> int:
        return self._length

    def first(self) -> Batch:
        """The first batch, which comes again when the training asks for it."""
        if not self._first:
            self._running = self._started()
            self._first = [_spoken(next(self._running))]
        return self._first[0]

    def close(self) -> None:
        """End the workers, if the training did not come to it."""
        self._running, self._first = None, []

    def __iter__(self) -> Iterator[Batch]:
        # Nobody else holds them: the workers end when the training does.
        running, first = self._running or self._started(), self._first
        self.close()
        yield from first
        while True:
            start = time.perf_counter()
            try:
                batch = next(running)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - start
            yield _spoken(batch)

    def _started(self) -> Iterator[Batch | StrokeSegError]:
        if not self._loader.num_workers:
            return iter(self._loader)
        with starting(self._batches):
            return iter(self._loader)


class _Outspoken(Dataset[Batch | StrokeSegError]):
    """The batches, or the error in words: between processes only its text would be left of an exception."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Batch | StrokeSegError:
        try:
            return self._batches[number]
        except StrokeSegError as error:
            return error


def _spoken(found: Batch | StrokeSegError) -> Batch:
    if isinstance(found, StrokeSegError):
        raise found
    return found
