"""Cases: which scans belong together, what role each plays, and how they are found in a folder.

`roles` tells a file's role by its name, `case` holds the volumes of one patient, `discovery` finds cases in folders.
Imports `strokeseg.errors` and `strokeseg.volume`.
"""

from __future__ import annotations

from strokeseg.case.case import Case
from strokeseg.case.discovery import CaseFiles, discover
from strokeseg.case.roles import COMPANION_ROLES, ROLE_TITLES, safe_name
from strokeseg.models import INPUT_ROLES, roles_in_name

__all__ = [
    "COMPANION_ROLES",
    "INPUT_ROLES",
    "ROLE_TITLES",
    "Case",
    "CaseFiles",
    "discover",
    "roles_in_name",
    "safe_name",
]
