"""Draws the contact sheets of a data set from its files, a page for every few cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.volume.reading import read_volume
from strokeseg_training.contact_sheet import SheetRow, draw_contact_sheet
from strokeseg_training.synthesize import WrittenCase

CASES_A_PAGE = 12
_NAMES = {"dwi": "DWI", "t1": "T1", "adc": "ADC"}


def write_contact_sheets(
    cases: Sequence[WrittenCase], folder: Path, title: str, monitor: Monitor | None = None
) -> list[Path]:
    """One PNG for every `CASES_A_PAGE` cases: ``contact_sheet.png``, or ``contact_sheet_01.png`` and so on.

    Args:
        cases: What `write_data_set` returned.
        folder: Where the pictures go.
        title: First line of each page; pages are numbered.
        monitor: Told about each page.

    Raises:
        InputError: A case cannot be read or a picture cannot be written.
    """
    monitor = monitor or Monitor()
    pages = math.ceil(len(cases) / CASES_A_PAGE)
    digits = max(2, len(str(pages)))
    written = []
    with monitor.stage("contact sheet", f"{pages} pages" if pages > 1 else ""):
        for page in range(pages):
            monitor.progress(page, pages)
            name = "contact_sheet.png" if pages == 1 else f"contact_sheet_{page + 1:0{digits}d}.png"
            shown = cases[page * CASES_A_PAGE : (page + 1) * CASES_A_PAGE]
            heading = title if pages == 1 else f"{title}, page {page + 1} of {pages}"
            written.append(_write(folder / name, draw_contact_sheet([_row(case) for case in shown], heading)))
    return written


def _row(case: WrittenCase) -> SheetRow:
    role = "dwi" if "dwi" in case.images else "t1"
    image = read_volume(case.images[role])
    second = (read_volume(case.images["adc"]).array, _NAMES["adc"]) if "adc" in case.images else None
    spacing = " x ".join(f"{s:.3g}" for s in image.grid.spacing_mm)
    return SheetRow(
        name=case.name,
        caption=(f"label {case.lesion_volume_ml:.2f} ml", f"{spacing} mm"),
        image=image.array,
        image_name=_NAMES[role],
        affine=image.affine,
        mask=read_volume(case.mask, role="reference").array,
        second=second,
    )


def _write(path: Path, content: bytes) -> Path:
    part = path.with_name(f".part-{path.name}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise InputError(
            "The contact sheet cannot be written.",
            f"The operating system refused '{path}' ({error.strerror or type(error).__name__}).",
            "Check that you may write to the folder and that the disk is not full.",
        ) from error
    return path
