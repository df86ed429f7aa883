"""What a segment is, in coded terms: StrokeSeg's own lists, and the text that Slicer keeps with a segment.

The lists that come with Slicer have no infarct. The files are in `Resources/Terminologies`.
"""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from strokeseg.errors import DependencyError
from strokeseg.models import LesionClass
from strokeseg.resources import resource_path

TYPES = "Segmentation category and type - StrokeSeg"
REGIONS = "Anatomic codes - StrokeSeg"
_CATEGORY = "SCT^49755003^Morphologically Altered Structure"
_BRAIN = "SCT^12738006^Brain"


def loadTerminologies() -> None:
    """Make the lists known to Slicer; the same lists twice do no harm.

    Raises:
        DependencyError: Slicer refused a file, or it is missing.
    """
    logic = slicer.modules.terminologies.logic()
    for name, load in (
        ("StrokeSeg.term.json", logic.LoadTerminologyFromFile),
        ("StrokeSeg-Anatomy.term.json", logic.LoadRegionContextFromFile),
    ):
        if not load(str(resource_path("Terminologies", name))):
            raise DependencyError(
                _("A file that belongs to StrokeSeg is damaged."),
                _("Slicer cannot read 'Terminologies/{name}'.").format(name=name),
                _("Install StrokeSeg again."),
            )


def entryOf(lesionClass: LesionClass) -> str:
    """A class of a model in Slicer's form: context, category, type, modifier, regions, region, modifier."""
    kind = f"{lesionClass.coding_scheme}^{lesionClass.code}^{lesionClass.meaning}"
    return "~".join((TYPES, _CATEGORY, kind, "^^", REGIONS, _BRAIN, "^^"))


def tag(segment: Any, lesionClass: LesionClass) -> None:
    """Write the entry into a segment."""
    segment.SetTag(segment.GetTerminologyEntryTagName(), entryOf(lesionClass))
