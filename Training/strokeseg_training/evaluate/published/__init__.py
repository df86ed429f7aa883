"""The result files of the published systems: their names and keys, with figures that are counted right.

A file a system. What each original counted otherwise stands in `docs/systems.md`; what a figure means here is what
`strokeseg.metrics` says. Nothing here computes a metric: all come from the patients' records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.evaluate.logs import TrainingRun
from strokeseg_training.evaluate.place import Place
from strokeseg_training.evaluate.results import Results


@dataclass(frozen=True)
class Work:
    """What a writer gets.

    Attributes:
        results: Of the evaluation.
        place: Its folder.
        run: The model's training; None where it was not named.
        loss: Name of the loss, or ``not said``.
        evaluations: ``results.json`` of this one and of those that stand beside it.
        folder: For the files.
    """

    results: Results
    place: Place
    run: TrainingRun | None
    loss: str
    evaluations: tuple[Mapping[str, Any], ...]
    folder: Path


Writer = Callable[[Work], list[Path]]
_OF_NETWORK = {
    "lesion-net": "lesion-net",
    "atlas-unet": "atlas",
    "atlas-segnet": "atlas",
    "atlas-resunet": "atlas",
    "attention-unet-3d": "attention-unet-3d",
    "mscs-net": "mscs-net",
    "segformer3d": "strokeformer",
}
NAMES = tuple(dict.fromkeys(_OF_NETWORK.values()))


def writers_of(names: Sequence[str], network: str) -> dict[str, Writer]:
    """Name of a system to what writes its files.

    Args:
        names: Of systems; empty: the one that the network belongs to, if any.
        network: Of the model.

    Raises:
        InputError: There is no such system.
    """
    # Each loads what it needs when it is asked for.
    from strokeseg_training.evaluate.published import (  # noqa: PLC0415
        atlas,
        attention_unet,
        lesion_net,
        mscs_net,
        strokeformer,
    )

    writers: dict[str, Writer] = {
        "lesion-net": lesion_net.write,
        "atlas": atlas.write,
        "attention-unet-3d": attention_unet.write,
        "mscs-net": mscs_net.write,
        "strokeformer": strokeformer.write,
    }
    wanted = list(names) or ([_OF_NETWORK[network]] if network in _OF_NETWORK else [])
    for name in wanted:
        if name not in writers:
            near = get_close_matches(name, writers, n=1)
            raise InputError(
                f"There are no result files of a system '{name}'.",
                f"There are those of: {', '.join(writers)}.",
                f"Did you mean '{near[0]}'?" if near else "Choose one of them.",
            )
    return {name: writers[name] for name in dict.fromkeys(wanted)}
