"""`Ranks`: the processes that train one network together, and what they tell each other."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from strokeseg.errors import InputError, StrokeSegError

_T = TypeVar("_T")
_START = (
    "Start one process a device with 'torchrun --nnodes ... --nproc-per-node ... --no-python strokeseg-train fit ...' "
    "or, under SLURM, with 'srun', and give --devices and --num-nodes the same numbers."
)


class Ranks:
    """A process among those that train a network together, or the only one.

    Args:
        devices: Processes on each machine, one a device.
        machines: How many there are.
        environment: What `find_environment` found; None: Lightning's own.

    Attributes:
        number: Of this process, from 0 on; 0 alone writes and speaks.
        world: How many processes there are.
        local: Number of this process on its machine.
        here: How many are on each machine.
        environment: Lightning's: torchrun's, SLURM's, or its own, where the processes are started here.
    """

    def __init__(self, devices: int = 1, machines: int = 1, environment: ClusterEnvironment | None = None) -> None:
        self.here, self.world = devices, devices * machines
        self.environment = environment or LightningEnvironment()
        alone = self.world == 1
        self.local = 0 if alone else self.environment.local_rank()
        self.number = 0 if alone else self.environment.node_rank() * devices + self.local
        self._group: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.number == 0

    @property
    def starts_others(self) -> bool:
        """Whether this process has to start the others."""
        return self.world > 1 and not self.environment.creates_processes_externally

    def connect(self) -> None:
        """Begin to hear each other; every process calls it, once Lightning has joined them."""
        if self.world > 1 and torch.distributed.get_backend() != "gloo":
            # What is said between steps must not wait for a GPU.
            self._group = torch.distributed.new_group(backend="gloo")

    def gather(self, mine: _T) -> list[_T]:
        """What each process gives, in their order; every process calls it."""
        if self.world == 1:
            return [mine]
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, mine, group=self._group)
        return found

    def largest(self, mine: int) -> int:
        """The largest number that a process gives; every process calls it."""
        if self.world == 1:
            return mine
        found = torch.tensor(mine)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(found)

    def mean(self, mine: Mapping[str, float]) -> dict[str, float]:
        """The mean over the processes of each of some numbers; the same in all of them."""
        all_of_them = self.gather(dict(mine))
        return {name: math.fsum(one[name] for one in all_of_them) / self.world for name in mine}

    def mine(self, number: int) -> range:
        """Which of a number of things are this process's: each belongs to exactly one."""
        return range(self.number, number, self.world)

    def joined(self, mine: Sequence[_T]) -> list[_T]:
        """What all processes made of their `mine`, each thing at its own place again."""
        parts = self.gather(list(mine))
        total = sum(map(len, parts))
        return [parts[n % self.world][n // self.world] for n in range(total)]

    def said_once(self, error: StrokeSegError) -> BaseException:
        """An error that every process raises: in words by the first, by the others as an end without words."""
        return error if self.first else SystemExit(error.exit_code)


class Meeting(pl.Callback):
    """Before the first step, the processes see that they are about to do the same; after the last, they wait.

    Args:
        ranks: The processes.
        facts: What must be the same in all of them, by a name for people.
        threads: Of PyTorch in each; Lightning divides the machine's otherwise.
    """

    def __init__(self, ranks: Ranks, facts: Mapping[str, str], threads: int) -> None:
        self._ranks, self._facts, self._threads = ranks, dict(facts), threads

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Compare the facts, before networks that may differ are joined.

        Raises:
            InputError: Says which differ, and where.
        """
        torch.set_num_threads(self._threads)
        self._ranks.connect()
        refuse_differences(self._ranks, self._facts)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Nobody leaves before the first process has saved the run."""
        self._ranks.gather(None)


def refuse_differences(ranks: Ranks, facts: Mapping[str, str]) -> None:
    """See that every process is about to do the same.

    Args:
        ranks: The processes.
        facts: Of this one, by names for people; hashes are shown shortened.

    Raises:
        InputError: Says which fact differs, and on which machines.
    """
    found = ranks.gather((platform.node(), dict(facts)))
    host, wanted = found[0]
    for number, (other, seen) in enumerate(found):
        differs = sorted(name for name in {*wanted, *seen} if wanted.get(name) != seen.get(name))
        if differs:
            name = differs[0]
            raise ranks.said_once(
                InputError(
                    "The processes would not train the same.",
                    f"The {name} is {_short(wanted.get(name))} in process 0 on '{host}' and {_short(seen.get(name))} "
                    f"in process {number} on '{other}'.",
                    "Give every machine the same prepared set, recipe, run folder and versions, best on a disk that "
                    "they share, and start again.",
                )
            )


def _short(value: str | None) -> str:
    return "missing" if not value else f"{value[:12]}..." if len(value) > 24 else value


def find_environment(devices: int, machines: int) -> ClusterEnvironment:
    """Who started the processes; found in the order in which Lightning looks.

    Args:
        devices: Processes on each machine that were asked for.
        machines: How many were asked for.

    Raises:
        InputError: torchrun or SLURM started another number of processes, or nobody starts those of other machines.
    """
    try:
        found: ClusterEnvironment
        if TorchElasticEnvironment.detect():
            found = TorchElasticEnvironment()
        elif SLURMEnvironment.detect():
            # Lightning would answer SLURM's signal with a checkpoint of its own; ours follow on SIGTERM.
            found = SLURMEnvironment(auto_requeue=False)
        else:
            found = LightningEnvironment()
        found.validate_settings(num_devices=devices, num_nodes=machines)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "The number of processes is not what was asked for.",
            f"Asked for were {devices} on each of {machines} machine{'s' * (machines > 1)}; Lightning says: {error}",
            "Give --devices and --num-nodes as many as torchrun or SLURM start: processes a machine, and machines.",
        ) from error
    if machines > 1 and isinstance(found, LightningEnvironment):
        raise InputError(
            "Nobody starts the processes of the other machines.",
            f"--num-nodes is {machines}, and this process was started neither by torchrun nor by srun.",
            _START,
        )
    return found
