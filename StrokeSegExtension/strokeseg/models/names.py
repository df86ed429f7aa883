"""What a model may be called: the name is that of a folder, on every system. Standard library only."""

from __future__ import annotations

import re

from strokeseg.models.fields import Fields

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
# Windows takes these for devices whatever follows the first dot; no folder can be made of them there.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def is_model_name(name: str) -> bool:
    """Whether a model may have this name."""
    return bool(_NAME.fullmatch(name)) and not _DEVICES.fullmatch(name)


def model_name(fields: Fields) -> str:
    """The field ``name`` of a card, or of an entry of a list of models.

    Raises:
        ModelError: It is no name that a folder can have everywhere.
    """
    name = fields.text("name")
    if not _NAME.fullmatch(name):
        raise fields.wrong(
            "name", "at most 64 lower-case letters, digits, '-', '_' and '.', the first and last no sign", name
        )
    if _DEVICES.fullmatch(name):
        raise fields.wrong("name", "a name that Windows does not keep for a device (con, nul, com1, ...)", name)
    return name
