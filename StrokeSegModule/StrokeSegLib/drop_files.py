"""Files that are dropped on a widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


class DropFiles(qt.QObject):  # type: ignore[misc]  # Slicer's Qt has no types
    """Hands the paths of dropped files and folders on.

    Args:
        widget: Where they can be dropped.
        onPaths: Called with the paths, after the drop has ended.
    """

    def __init__(self, widget: Any, onPaths: Callable[[list[str]], None]) -> None:
        qt.QObject.__init__(self, widget)
        self._onPaths = onPaths
        widget.setAcceptDrops(True)
        widget.installEventFilter(self)

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        """Take drops of local files; everything else goes its way."""
        kind = int(event.type())
        if kind not in (int(qt.QEvent.DragEnter), int(qt.QEvent.DragMove), int(qt.QEvent.Drop)):
            return False
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if not paths:
            return False
        event.acceptProposedAction()
        if kind == int(qt.QEvent.Drop):
            # Loading takes a while, and the program that the files come from waits for this to return.
            qt.QTimer.singleShot(0, lambda: self._onPaths(paths))
        return True
