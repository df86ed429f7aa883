"""Qt Designer files, read strictly: a class, property, signal or slot that real Slicer lacks raises.

Qt's own loader takes an unknown property for a dynamic one and prints a line for an unknown slot; in Slicer the panel
would then look right and do nothing. Connections are made here, by the same rules as `connect()` in Python.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets
from slicer_harness import class_info, decorators
from slicer_harness.allow_lists import STAND_INS
from slicer_harness.native_segments import CLASSES
from slicer_harness.wrapper import InstanceWrapper, adopt, wrap

DYNAMIC_PROPERTIES = frozenset({"SlicerParameterName", "SlicerPackParameterName"})


class UiFileError(ValueError):
    """The .ui file asks for something that real Slicer does not have."""


class _Loader(QtUiTools.QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[QtWidgets.QWidget] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        if class_name not in CLASSES:
            return super().createWidget(class_name, parent, name)
        widget = CLASSES[class_name](parent)
        widget.setObjectName(name)
        self.kept.append(widget)
        return widget


def native_class(name: str) -> type:
    """The PySide6 class of a widget's class name; UiFileError where Slicer has no such widget."""
    if name in CLASSES:
        return CLASSES[name]
    if name == "Line":  # Qt Designer's name for a QFrame drawn as a line
        return QtWidgets.QFrame
    found = getattr(QtWidgets, name, None)
    if found is None:
        known = (
            f"add a stand-in for {name} to the test double"
            if name in STAND_INS or name[:1] in "qc"
            else "no such Qt widget"
        )
        raise UiFileError(f"widget class '{name}': {known}")
    return found


def _check_properties(element: ElementTree.Element, native: type, where: str) -> None:
    for prop in element.findall("property"):
        name = prop.get("name", "")
        dynamic = prop.get("stdset") == "0" and name in DYNAMIC_PROPERTIES
        pseudo = (
            name == "geometry"
            or (name == "orientation" and element.get("class") == "Line")
            or (name == "buddy" and issubclass(native, QtWidgets.QLabel))
        )
        if dynamic or pseudo:
            continue
        member = class_info.member_of(native, name)
        if member is None or member.kind != "property":
            raise UiFileError(f"{where}: {native.__name__} has no property '{name}'")
        if name == "styleSheet":
            raise UiFileError(f"{where}: style sheets break dark palettes and are not used")
        _numbers_for_enums(prop, native)


def _numbers_for_enums(prop: ElementTree.Element, native: type) -> None:
    """`ctkPathLineEdit::Files` means nothing to Qt's loader; the number does."""
    for value in prop:
        if value.tag not in {"set", "enum"} or not value.text:
            continue
        parts = value.text.split("|")
        owners = {part.split("::")[0] for part in parts if "::" in part}
        if owners & set(CLASSES) or (class_info.is_stand_in(native) and not _is_plain_qt(native, prop.get("name", ""))):
            total = 0
            for part in parts:
                total |= _number(part)
            value.tag, value.text = "number", str(total)


def _is_plain_qt(native: type, name: str) -> bool:
    return not any(name in STAND_INS[c.__name__].properties for c in native.__mro__ if c.__name__ in STAND_INS)


def _number(constant: str) -> int:
    owner, _, name = constant.rpartition("::")
    owner = owner.split("::")[0]
    if owner in STAND_INS:
        if name not in STAND_INS[owner].enums:
            raise UiFileError(f"'{constant}' is no value of {owner}")
        return STAND_INS[owner].enums[name]
    source = QtCore.Qt if owner == "Qt" else getattr(QtWidgets, owner)
    from slicer_harness import enums

    return int(enums.values_of(source)[name])


def _check(root: ElementTree.Element, path: str) -> dict[str, type]:
    custom = {c.findtext("class", "") for c in root.iter("customwidget")}
    named: dict[str, type] = {}
    for element in root.iter("widget"):
        class_name, name = element.get("class", ""), element.get("name", "")
        where = f"{path}: {name}"
        native = native_class(class_name)
        if class_name in CLASSES and class_name not in custom:
            raise UiFileError(f"{where}: {class_name} is missing among <customwidgets>")
        if name in named:
            raise UiFileError(f"{where}: two widgets of this name")
        named[name] = native
        _check_properties(element, native, where)
    return named


def load(path: str) -> InstanceWrapper:
    """Build the widget of a .ui file; raises UiFileError with the file, widget and reason."""
    root = ElementTree.fromstring(Path(path).read_text(encoding="utf-8"))
    _check(root, path)
    connections = [c for block in root.findall("connections") for c in block.findall("connection")]
    for block in root.findall("connections"):
        root.remove(block)
    loader = _Loader()
    loader.setWorkingDirectory(QtCore.QDir(str(Path(path).parent)))
    data = QtCore.QBuffer()
    data.setData(ElementTree.tostring(root, encoding="utf-8"))
    data.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    native = loader.load(data)
    if native is None:
        raise UiFileError(f"{path}: {loader.errorString()}")
    native._harness_kept = loader.kept  # type: ignore[attr-defined]
    widget = wrap(native)
    adopt(widget, native, keep=True)
    for connection in connections:
        _connect(native, connection, path)
    return widget


def _connect(top: QtWidgets.QWidget, connection: ElementTree.Element, path: str) -> None:
    def of(tag: str) -> str:
        return connection.findtext(tag, "")

    def find(name: str) -> QtCore.QObject:
        found = top if top.objectName() == name else top.findChild(QtCore.QObject, name)
        if found is None:
            raise UiFileError(f"{path}: connection names '{name}', which is not in the file")
        return found

    sender, receiver = wrap(find(of("sender"))), wrap(find(of("receiver")))
    try:
        decorators.find(sender._native, "connect")(sender, of("signal"), receiver, of("slot"))  # type: ignore[misc]
    except ValueError as error:
        raise UiFileError(f"{path}: {of('sender')}.{of('signal')} -> {of('receiver')}.{of('slot')}: {error}") from error
