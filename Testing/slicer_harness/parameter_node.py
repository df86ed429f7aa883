"""`@parameterNodeWrapper`: typed attributes on a vtkMRMLScriptedModuleNode, tied to widgets by SlicerParameterName.

Behaviour as in Slicer/Slicer Base/Python/slicer/parameterNodeWrapper/wrapper.py@07cbed6: values are cached and read
anew on every ModifiedEvent of the node; missing values are written with their default when the wrapper is made. The
node does not keep a wrapper alive before `connectParametersToGui`, and always does after it; `connectGui` gives no tag.
"""

import types
import typing
import weakref
from functools import partial
from typing import Any

import slicer
import vtk
from slicer_harness import parameter_checks, parameter_pack, parameter_types, parameter_widgets

SlicerParameterNamePropertyName = "SlicerParameterName"
_RESERVED = [
    "default",
    "isCached",
    "dataType",
    "getValue",
    "setValue",
    "connectGui",
    "connectParametersToGui",
    "disconnectGui",
    "StartModify",
    "EndModify",
    "AddObserver",
    "RemoveObserver",
    "Modified",
    "allParameters",
]


class _Cached:
    def __init__(self, name: str, store: parameter_types.Store, node: Any, default: Any) -> None:
        self.name, self.store, self.node, self.default = name, store, node, default
        self.value, self.writing, self._tag = self._read(), False, 0
        weak = weakref.ref(self)

        def modified(*_: Any) -> None:
            alive = weak()
            if alive is not None:
                alive._on_modified()

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def __del__(self) -> None:
        self.node.RemoveObserver(self._tag)

    def _read(self) -> Any:
        # A closed scene empties the parameter node; Slicer then writes the default anew on the next reading.
        if not self.store.is_in(self.node, self.name):
            self.store.write(self.node, self.name, self.default)
        return self.store.read(self.node, self.name)

    def _on_modified(self) -> None:
        if not self.writing:
            self.value = self._read()

    def write(self, value: Any) -> None:
        self.writing = True
        try:
            with slicer.util.NodeModify(self.node):
                self.store.write(self.node, self.name, value)
                self.value = self._read()
        finally:
            self.writing = False


def _attribute(name: str) -> property:
    return property(lambda self: self._cache[name].value, lambda self, value: self._cache[name].write(value))


def isParameterNodeWrapper(obj: Any) -> bool:
    return bool(getattr(obj, "_is_parameter_node_wrapper", False))


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator; with or without brackets."""
    if classtype is None:
        return parameterNodeWrapper
    members = typing.get_type_hints(classtype, include_extras=True)
    for name in members:
        if name in _RESERVED:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    cls: Any = classtype
    stores = {name: parameter_types.store_for(kind) for name, kind in members.items()}
    cls._defaults = {n: parameter_types.initial_value(classtype, n, members[n], stores[n]) for n in members}
    cls.allParameters, cls._stores, cls._is_parameter_node_wrapper = members, stores, True
    for name in members:
        setattr(cls, name, _attribute(name))
    for name, function in vars(_Behaviour).items():
        if isinstance(function, types.FunctionType | staticmethod | classmethod):
            setattr(cls, name, function)
    return cls


class _Behaviour:
    """What the decorator adds to the class."""

    def __init__(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
        if parameterNode is None:
            raise AssertionError("a parameter node is needed")
        self.parameterNode, self._next_tag, self._updating = parameterNode, 0, False
        self._guis: dict[int, dict[str, parameter_widgets.GuiConnector]] = {}
        self._cache = {
            name: _Cached((prefix or "") + name, store, parameterNode, self._defaults[name])
            for name, store in self._stores.items()
        }

    def _check(self: Any, name: str) -> tuple[str, str]:
        top, _, rest = name.partition(".")
        if top not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {top}; known are {sorted(self.allParameters)}")
        if rest and rest.split(".")[0] not in getattr(
            parameter_checks.unannotatedType(self.allParameters[top]), "allParameters", {}
        ):
            raise ValueError(f"'{top}' has no member '{rest}'")
        return top, rest

    def default(self: Any, name: str) -> Any:
        return parameter_checks.Default(self._defaults[self._check(name)[0]])

    def isCached(self: Any, name: str) -> bool:
        self._check(name)
        return True

    @classmethod
    def dataType(cls: Any, name: str) -> Any:
        top, _, rest = name.partition(".")
        kind = cls.allParameters[top]
        return parameter_checks.unannotatedType(kind).dataType(rest) if rest else kind

    def getValue(self: Any, name: str) -> Any:
        top, rest = self._check(name)
        return self._cache[top].value.getValue(rest) if rest else self._cache[top].value

    def setValue(self: Any, name: str, value: Any) -> None:
        top, rest = self._check(name)
        if rest:
            self._cache[top].value.setValue(rest, value)
        else:
            self._cache[top].write(value)

    def connectGui(self: Any, gui: Any) -> None:
        """`gui` is a widget, whose children are searched, or the object of childWidgetVariables().

        Slicer's own gives no tag, so what it connects cannot be disconnected; `connectParametersToGui` gives one.
        """
        import qt

        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(vars(gui).values())
        named = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if name:
                named[name] = widget
        self.connectParametersToGui(named)

    def connectParametersToGui(self: Any, mapping: dict[str, Any]) -> int:
        for name in mapping:
            self._check(name)
        connectors = {
            name: w
            if isinstance(w, parameter_widgets.GuiConnector)
            else parameter_widgets.createGuiConnector(w, self.dataType(name))
            for name, w in mapping.items()
        }
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(partial(self._from_gui, name, connector))
        self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        return tag

    def _from_gui(self: Any, name: str, connector: Any) -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(name, connector.read())

    def _to_gui(self: Any) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False

    def disconnectGui(self: Any, tag: int) -> None:
        for connector in self._guis.pop(tag, {}).values():
            connector.onChanged(None)

    def StartModify(self: Any) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self: Any, was: Any) -> None:
        self.parameterNode.EndModify(was)

    def AddObserver(self: Any, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self: Any, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self: Any) -> None:
        self.parameterNode.Modified()


def make_module() -> types.ModuleType:
    """The module `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper", __doc__)
    for source, names in (
        (parameter_checks, "Validator NotNone WithinRange Minimum Maximum Choice Exclude Default Decimals SingleStep "
         "splitAnnotations unannotatedType findFirstAnnotation"),
        (parameter_pack, "parameterPack isParameterPack"),
        (parameter_widgets, "GuiConnector createGuiConnector"),
    ):  # fmt: skip
        for name in names.split():
            setattr(module, name, getattr(source, name))
    module.parameterNodeWrapper = parameterNodeWrapper  # type: ignore[attr-defined]
    module.isParameterNodeWrapper = isParameterNodeWrapper  # type: ignore[attr-defined]
    module.SlicerParameterNamePropertyName = SlicerParameterNamePropertyName  # type: ignore[attr-defined]
    return module
