"""What may be asked of the worker: the kinds of requests and their fields, strictly checked.

Standard library and `strokeseg.errors` only, so that the panel can use it, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from strokeseg.errors import InputError

PROTOCOL = 1
"""Raised when a request or an event changes its meaning; both sides must have the same number."""
ROLES = ("dwi", "adc", "t1", "flair", "b0", "brain_mask")
LONGEST_LINE = 1_000_000
"""Bytes of a request, its line break included."""
_LONGEST_ID = 200
_SHOWN = 60


@dataclass(frozen=True)
class Request:
    """One request: `fields` holds what belongs to its kind; a field that may be left out is never None."""

    id: str
    kind: str
    fields: Mapping[str, Any]


class RequestError(InputError):
    """A line that is no request.

    Attributes:
        id: The request's id as far as it could be read, else "".
    """

    def __init__(self, cause: str, request_id: str = "") -> None:
        super().__init__("A request was not understood.", cause, "Correct the request; one JSON object a line.")
        self.id = request_id


def parse_request(line: bytes) -> Request:
    """The request on one line, in UTF-8.

    Raises:
        RequestError: It is no JSON object, or a field is missing, unknown, twice there or of the wrong type; names the
            field.
    """
    if len(line) > LONGEST_LINE:
        raise RequestError(f"The line has more than {LONGEST_LINE} bytes.")
    try:
        data = json.loads(line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except RequestError:
        raise
    except (ValueError, RecursionError) as error:
        raise RequestError("The line is no JSON text in UTF-8.") from error
    if not isinstance(data, dict):
        raise RequestError("The line is no JSON object.")
    request_id, kind = data.pop("id", None), data.pop("kind", None)
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= _LONGEST_ID:
        raise RequestError(f"Field 'id': expected a text of 1 to {_LONGEST_ID} characters.")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise RequestError("Field 'kind': expected one of " + ", ".join(KINDS) + ".", request_id)
    problem = _problem(kind, data)
    if problem:
        raise RequestError(problem, request_id)
    return Request(request_id, kind, {name: value for name, value in data.items() if value is not None})


def _problem(kind: str, data: dict[str, Any]) -> str:
    """What is wrong with the fields of a request; "" when nothing is."""
    known = _FIELDS[kind]
    for name in data:
        if name not in known:
            return f"Field '{name[:_SHOWN]}' is not known in a request of kind '{kind}'."
    for name, (check, required) in known.items():
        value = data.get(name)
        if value is None:
            if required:
                return f"Field '{name}' is missing in a request of kind '{kind}'."
        elif wrong := check(name, value):
            return wrong
    return ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two fields of one name nobody knows which was meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RequestError(f"Field '{name[:_SHOWN]}' is there twice.")
        found[name] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# Each check takes the name of a field and its value, and says what is wrong with it, or "".


def _whole(name: str, value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return "" if good else f"Field '{name}': expected a whole number."


def _number_to(highest: float) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        # Compared, never converted: a whole number of a thousand digits is no float, and NaN is in no range.
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= highest
        return "" if good else f"Field '{name}': expected a number from 0 to {highest:g}."

    return check


def _name(name: str, value: Any) -> str:
    good = isinstance(value, str) and 1 <= len(value) <= _LONGEST_ID
    return "" if good else f"Field '{name}': expected a text of 1 to {_LONGEST_ID} characters."


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        return f"Field '{name}': expected a path, a text that is not empty."
    return "" if _is_for_the_system(value) else f"Field '{name}': no file can have this name."


def _inputs(name: str, value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return f"Field '{name}': expected an object of role ({', '.join(ROLES)}) to path."
    for role, path in value.items():
        if role not in ROLES:
            return f"Field '{name}': the role '{role[:_SHOWN]}' is not known; known are {', '.join(ROLES)}."
        if wrong := _path(f"{name}.{role}", path):
            return wrong
    return ""


def _options(name: str, value: Any) -> str:
    """Only the form: which options there are and what they mean is known where they are used."""
    if not isinstance(value, dict):
        return f"Field '{name}': expected an object of option to value."
    for option, given in value.items():
        for part in given if isinstance(given, list) else [given]:
            plain = part is None or isinstance(part, bool | str) or _is_small_number(part)
            if not plain or (isinstance(part, str) and not _is_for_the_system(part)):
                return f"Field '{name}.{option[:_SHOWN]}': expected a text, a number, true, false, null, or a list."
    return ""


def _is_small_number(value: Any) -> bool:
    return isinstance(value, int | float) and -1e300 < value < 1e300


def _is_for_the_system(text: str) -> bool:
    """Whether a text can be handed to the operating system, as a path is.

    Half a surrogate pair cannot, but for those that stand for bytes of a name that is no UTF-8.
    """
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


# Field name to (check, required).
_FIELDS: dict[str, dict[str, tuple[Callable[[str, Any], str], bool]]] = {
    "hello": {"protocol": (_whole, False)},
    "segment": {"inputs": (_inputs, True), "out": (_path, True), "options": (_options, False)},
    "relabel": {
        "result": (_path, True),
        "threshold": (_number_to(1.0), True),
        "min_lesion_ml": (_number_to(1e4), False),
        "out": (_path, False),
    },
    "evaluate": {"prediction": (_path, True), "reference": (_path, True)},
    "cancel": {"target": (_name, True)},
    "shutdown": {},
}
KINDS = tuple(_FIELDS)
