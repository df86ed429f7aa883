"""Which model ``auto`` stands for: one rule for engine and panel. Standard library only."""

from __future__ import annotations

from collections.abc import Container, Iterable

_FOR_DIFFUSION = ("dwi-adc", "adc-threshold")
_FOR_T1 = ("t1",)


def automatic_model(roles: Iterable[str], at_hand: Container[str]) -> str | None:
    """The best model for the scans that are there.

    Args:
        roles: Of the scans. A b = 0 image stands in for a missing ADC map, which is then computed. Where there is a
            DWI, a model that does not look at it is no answer.
        at_hand: Names of models.

    Returns:
        Its name; None where no model at hand works with these scans.
    """
    given = set(roles)
    wanted: tuple[str, ...] = ()
    if "dwi" in given and given & {"adc", "b0"}:
        wanted = _FOR_DIFFUSION
    elif "t1" in given and "dwi" not in given:
        wanted = _FOR_T1
    return next((name for name in wanted if name in at_hand), None)
