"""`Case`: the volumes of one patient by role.

The reference mask is no part of a case and never will be: what is handed to inference cannot know the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from strokeseg.case.roles import safe_name
from strokeseg.errors import InputError
from strokeseg.models import INPUT_ROLES
from strokeseg.volume import Volume
from strokeseg.volume.reading import read_dwi_and_b0, read_volume

Source = str | Path | Volume


@dataclass(frozen=True, eq=False)
class Case:
    """What is known of one patient, each volume on its own grid.

    Args:
        volumes: Role (one of `INPUT_ROLES`) to volume; at least one.
        brain_mask: Where the brain is, on any grid; above 0 is brain. None: not given.
        name: Identifier from the data set's layout, safe for file names; "" for single files.
    """

    volumes: Mapping[str, Volume]
    brain_mask: Volume | None = None
    name: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.volumes) - set(INPUT_ROLES))
        if unknown:
            raise ValueError(f"no such role: {', '.join(unknown)}; a case has the roles {', '.join(INPUT_ROLES)}")
        object.__setattr__(self, "volumes", {r: self.volumes[r] for r in INPUT_ROLES if r in self.volumes})
        object.__setattr__(self, "name", safe_name(self.name))

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are there, in the order of `INPUT_ROLES`."""
        return tuple(self.volumes)

    @classmethod
    def from_files(
        cls,
        *,
        dwi: Source | None = None,
        adc: Source | None = None,
        t1: Source | None = None,
        flair: Source | None = None,
        b0: Source | None = None,
        brain_mask: Source | None = None,
        name: str = "",
        b_value: float | None = None,
    ) -> Case:
        """Read a case from files; a `Volume` is taken as it is.

        A four-dimensional DWI file with b-values gives the b = 0 volume, too, when none is named; its notes say so.

        Args:
            dwi: Diffusion-weighted image, or a four-dimensional file of several b-values.
            adc: Apparent diffusion coefficient, in any of its units.
            t1: T1-weighted image.
            flair: FLAIR image.
            b0: Image without diffusion weighting.
            brain_mask: Mask of the brain.
            name: Identifier of the case.
            b_value: Which shell of a four-dimensional DWI is wanted, s/mm².

        Raises:
            InputError: A file cannot be read, or nothing was given.
        """
        given = {"dwi": dwi, "adc": adc, "t1": t1, "flair": flair, "b0": b0, "brain_mask": brain_mask}
        sources = {role: source for role, source in given.items() if source is not None}
        if not set(sources) & set(INPUT_ROLES):
            raise InputError(
                "No scan was given.",
                "A case needs at least one of DWI, ADC, T1, FLAIR and b = 0."
                + (" Only a brain mask was named." if sources else ""),
                "Name the files by their roles, for example --dwi dwi.nii.gz --adc adc.nii.gz.",
            )
        # One after the other: reading in threads was measured on two cores and gained nothing.
        volumes: dict[str, Volume] = {}
        for role, source in sources.items():
            volumes |= _read(role, source, with_b0=b0 is None, b_value=b_value)
        mask = volumes.pop("brain_mask", None)
        return cls(volumes, mask, name)


def _read(role: str, source: Source, *, with_b0: bool, b_value: float | None) -> dict[str, Volume]:
    """The volume of `role`, and of "b0" where that is wanted and lies in the same file."""
    if isinstance(source, Volume):
        return {role: source}
    if role != "dwi" or not with_b0:
        return {role: read_volume(source, role=role, b_value=b_value if role == "dwi" else None)}
    dwi, b0 = read_dwi_and_b0(source, b_value=b_value)
    if b0 is None:
        return {"dwi": dwi}
    note = "The b = 0 image was taken from the file of the DWI."
    return {"dwi": dwi, "b0": replace(b0, notes=(*b0.notes, note))}
