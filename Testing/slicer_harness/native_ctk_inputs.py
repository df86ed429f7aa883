"""PySide6 doubles of CTK's input widgets and boxes."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness.native_ctk import STRING_LIST, ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkSliderWidget


class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """A double spin box with one more property."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._inverted = False

    invertedControls = Property(bool, lambda self: self._inverted, lambda self, v: setattr(self, "_inverted", v))


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen" and a say over the mouse wheel."""

    returnRelease = Signal()
    defaultTextChanged = Signal(str)
    currentUserDataAsStringChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._default_icon, self._forced, self._elide, self._wheel = QtGui.QIcon(), False, 3, 1
        self.currentIndexChanged.connect(lambda _: self.currentUserDataAsStringChanged.emit(self._user_data()))

    def _user_data(self) -> str:
        data = self.currentData()
        return "" if data is None else str(data)

    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(next((i for i in range(self.count()) if str(self.itemData(i)) == data), -1))

    def _set_default_text(self, text: str) -> None:
        self.setPlaceholderText(text)
        self.defaultTextChanged.emit(text)

    defaultText = Property(str, lambda self: self.placeholderText(), _set_default_text)
    defaultIcon = Property(
        QtGui.QIcon, lambda self: self._default_icon, lambda self, v: setattr(self, "_default_icon", v)
    )
    forceDefault = Property(bool, lambda self: self._forced, lambda self, v: setattr(self, "_forced", v))
    elideMode = Property(int, lambda self: self._elide, lambda self, v: setattr(self, "_elide", v))
    scrollWheelEffect = Property(int, lambda self: self._wheel, lambda self, v: setattr(self, "_wheel", v))
    currentUserDataAsString = Property(str, _user_data, setCurrentUserDataAsString)

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        if self._wheel == 0:
            event.ignore()
        else:
            super().wheelEvent(event)


class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable path with a button that opens a file dialog."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, *args: Any) -> None:
        super().__init__(args[-1] if args and isinstance(args[-1], QtWidgets.QWidget) else None)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(8)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        row.addWidget(self._combo)
        row.addWidget(self._button)
        self._label, self._filters, self._options, self._key = "", 7, 0, ""
        self._names: list[str] = []
        self._policy, self._valid = 1, False
        self._combo.editTextChanged.connect(self._on_text)
        self._button.clicked.connect(self.browse)
        self.setFocusProxy(self._combo)

    def _on_text(self, text: str) -> None:
        info = QtCore.QFileInfo(text)
        valid = (
            bool(text)
            and info.exists()
            and bool((info.isDir() and self._filters & 1) or (info.isFile() and self._filters & 2))
        )
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)
        self.currentPathChanged.emit(text)

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    def browse(self) -> None:
        from slicer_harness import dialogs

        if self._filters & 2:
            kind = "getSaveFileName" if self._filters & 0x20 else "getOpenFileName"
        else:
            kind = "getExistingDirectory"
        answer = dialogs.answer_for(QtWidgets.QFileDialog, kind)
        if answer and answer[0]:
            self.setCurrentPath(answer[0])

    def _history(self) -> list[str]:
        stored: Any = QtCore.QSettings().value(self._settings_key(), [], list)
        return [str(path) for path in stored]

    def _settings_key(self) -> str:
        return f"ctkPathLineEdit/{self._key or self.objectName()}"

    def retrieveHistory(self) -> None:
        current = self._combo.currentText()
        blocked = self.blockSignals(True)
        self._combo.clear()
        self._combo.addItems(self._history())
        self._combo.setEditText(current)
        self.blockSignals(blocked)

    def addCurrentPathToHistory(self) -> None:
        path = self._combo.currentText()
        known = [p for p in self._history() if p != path]
        if path:
            QtCore.QSettings().setValue(self._settings_key(), [path, *known][:10])

    def _set_key(self, key: str) -> None:
        self._key = key
        self.retrieveHistory()

    currentPath = Property(str, lambda self: self._combo.currentText(), setCurrentPath, user=True)
    label = Property(str, lambda self: self._label, lambda self, v: setattr(self, "_label", v))
    filters = Property(int, lambda self: self._filters, lambda self, v: setattr(self, "_filters", int(v)))
    options = Property(int, lambda self: self._options, lambda self, v: setattr(self, "_options", int(v)))
    settingKey = Property(str, lambda self: self._key, _set_key)
    showBrowseButton = Property(
        bool, lambda self: not self._button.isHidden(), lambda self, v: self._button.setVisible(v)
    )
    showHistoryButton = Property(bool, lambda self: True, lambda self, v: None)
    sizeAdjustPolicy = Property(int, lambda self: self._policy, lambda self, v: setattr(self, "_policy", int(v)))
    minimumContentsLength = Property(
        int, lambda self: self._combo.minimumContentsLength(), lambda self, v: self._combo.setMinimumContentsLength(v)
    )
    nameFilters = Property(STRING_LIST, lambda self: self._names, lambda self, v: setattr(self, "_names", list(v)))


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as tall as its text (commontk/CTK Libs/Widgets/ctkFittedTextBrowser.cpp@1457f1f)."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.textChanged.connect(self.updateGeometry)

    def heightForWidth(self, width: int) -> int:
        frame = 2 * self.frameWidth()
        document = self.document().clone(self)
        document.setTextWidth(width - frame)
        height = round(document.size().height())
        document.deleteLater()
        return max(height, self.fontMetrics().lineSpacing()) + frame

    def sizeHint(self) -> QtCore.QSize:
        width = self.width()
        return QtCore.QSize(width, self.heightForWidth(width)) if width else super().minimumSizeHint()

    minimumSizeHint = sizeHint

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().height() != self.heightForWidth(event.size().width()):
            self.updateGeometry()


class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a menu beside it."""


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that can be silenced for ever."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._silent, self._key, self._box = False, "", False

    def setDontShowAgain(self, silent: bool) -> None:
        self._silent = silent

    dontShowAgain = Property(bool, lambda self: self._silent, setDontShowAgain)
    dontShowAgainSettingsKey = Property(str, lambda self: self._key, lambda self, v: setattr(self, "_key", v))
    dontShowAgainVisible = Property(bool, lambda self: self._box, lambda self, v: setattr(self, "_box", v))


CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSliderWidget,
        ctkDoubleSpinBox,
        ctkComboBox,
        ctkPathLineEdit,
        ctkFittedTextBrowser,
        ctkMenuButton,
        ctkMessageBox,
    )
}
"""Every double of a CTK widget by class name."""
