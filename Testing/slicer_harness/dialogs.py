"""Modal dialogs: a test plans the person's answer; a dialog nobody planned for raises instead of waiting."""

from collections import deque
from typing import Any

from PySide6 import QtWidgets

_ASKING = {
    "QFileDialog": {"getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"},
    "QMessageBox": {"question", "information", "warning", "critical", "about"},
    "QInputDialog": {"getText", "getItem", "getInt", "getDouble", "getMultiLineText"},
    "QColorDialog": {"getColor"},
}
_answers: deque[tuple[str, Any]] = deque()


class DialogWouldBlockError(RuntimeError):
    """The panel asked a person something that the test did not plan for."""


def plan(question: str, answer: Any) -> None:
    """Answer the next modal question of this name, such as 'QFileDialog.getOpenFileNames' or 'QMessageBox.exec'."""
    _answers.append((question, answer))


def forget() -> list[str]:
    """Drop what was planned and not asked; the names of those questions."""
    left = [question for question, _ in _answers]
    _answers.clear()
    return left


def answer_for(native: type, name: str) -> tuple[Any] | None:
    """The planned answer in a one-tuple, None where the call asks nobody anything."""
    asks = any(name in _ASKING.get(base.__name__, ()) for base in native.__mro__)
    runs = name in {"exec", "exec_"} and issubclass(native, QtWidgets.QDialog | QtWidgets.QMenu)
    if not asks and not runs:
        return None
    question = f"{native.__name__}.{name.rstrip('_')}"
    if not _answers or _answers[0][0] != question:
        planned = _answers[0][0] if _answers else "nothing"
        raise DialogWouldBlockError(f"{question}() would wait for a person; planned was {planned}.")
    return (_answers.popleft()[1],)
