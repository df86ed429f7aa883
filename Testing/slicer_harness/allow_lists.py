"""What the doubled classes of CTK and Slicer offer to Python, taken from their headers.

PythonQt shows a C++ class by its meta-object: Q_PROPERTY, signals, public slots and Q_INVOKABLE functions. A plain
public function such as ctkSliderWidget::setRange is therefore *not* callable, and is not listed. `source` names the
header and
the revision it was read at. Signals are given by full signature; `=name` after one says how the double calls an
overload.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Allowed:
    """The public face of one class."""

    source: str
    properties: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    signals: dict[str, str] = field(default_factory=dict)
    enums: dict[str, int] = field(default_factory=dict)


def _allowed(source: str, *, properties: str = "", methods: str = "", signals: str = "", enums: str = "") -> Allowed:
    table = {}
    for entry in signals.split():
        signature, _, name = entry.partition("=")
        table[signature] = name or signature.split("(")[0]
    values = {}
    for entry in enums.split():
        name, _, value = entry.partition("=")
        values[name] = int(value, 0)
    return Allowed(source, frozenset(properties.split()), frozenset(methods.split()), table, values)


CTK = "commontk/CTK Libs/Widgets/"
MRML = "Slicer/Slicer Libs/MRML/Widgets/"
CORE = "Slicer/Slicer Base/QTCore/"
GUI = "Slicer/Slicer Base/QTGUI/"
SEGMENTATIONS = "Slicer/Slicer Modules/Loadable/Segmentations/Widgets/"

STAND_INS: dict[str, Allowed] = {
    "ctkCollapsibleButton": _allowed(
        CTK + "ctkCollapsibleButton.h@0d0ec63",
        properties="collapsed collapsedHeight contentsFrameShape contentsFrameShadow contentsLineWidth "
        "contentsMidLineWidth buttonTextAlignment indicatorAlignment",
        signals="contentsCollapsed(bool)",
    ),
    "ctkCollapsibleGroupBox": _allowed(
        CTK + "ctkCollapsibleGroupBox.h@a1c4c47", properties="collapsed collapsedHeight"
    ),
    "ctkSliderWidget": _allowed(
        CTK + "ctkSliderWidget.h@099a88b",
        properties="decimals singleStep pageStep minimum maximum value prefix suffix tickInterval tickPosition "
        "autoSpinBoxWidth spinBoxAlignment tracking spinBoxVisible popupSlider",
        methods="reset setValue setSpinBoxVisible",
        signals="valueChanged(double) valueIsChanging(double)",
    ),
    "ctkDoubleSpinBox": _allowed(CTK + "ctkDoubleSpinBox.h@07a5028", properties="invertedControls"),
    "ctkComboBox": _allowed(
        CTK + "ctkComboBox.h@0760e82",
        properties="defaultText defaultIcon forceDefault elideMode scrollWheelEffect currentUserDataAsString",
        methods="setCurrentUserDataAsString",
        signals="returnRelease() defaultTextChanged(QString) currentUserDataAsStringChanged(QString)",
        enums="NeverScroll=0 AlwaysScroll=1 ScrollWithFocus=2 ScrollWithNoVScrollBar=3",
    ),
    "ctkPathLineEdit": _allowed(
        CTK + "ctkPathLineEdit.h@03bf847",
        properties="label filters currentPath options settingKey showBrowseButton showHistoryButton sizeAdjustPolicy "
        "minimumContentsLength nameFilters",
        methods="setCurrentPath browse retrieveHistory addCurrentPathToHistory",
        signals="validInputChanged(bool) currentPathChanged(QString)",
        enums="Dirs=1 Files=2 Drives=4 NoSymLinks=8 AllEntries=7 Readable=0x10 Writable=0x20 Executable=0x40 "
        "Hidden=0x100 NoDotAndDotDot=0x1000 NoDot=0x2000 NoDotDot=0x4000 ShowDirsOnly=1 ReadOnly=0x20 "
        "AdjustToContents=0 AdjustToContentsOnFirstShow=1 AdjustToMinimumContentsLength=2",
    ),
    "ctkFittedTextBrowser": _allowed(CTK + "ctkFittedTextBrowser.h@0d0ec63"),
    "ctkMenuButton": _allowed(CTK + "ctkMenuButton.h@1457f1f"),
    "ctkMessageBox": _allowed(
        CTK + "ctkMessageBox.h@03fac4c",
        properties="dontShowAgain dontShowAgainSettingsKey dontShowAgainVisible",
        methods="setDontShowAgain",
    ),
    "qMRMLWidget": _allowed(
        MRML + "qMRMLWidget.h@11ac587",
        methods="mrmlScene setMRMLScene pixmapFromIcon",
        signals="mrmlSceneChanged(vtkMRMLScene*)",
    ),
    "qMRMLNodeComboBox": _allowed(
        MRML + "qMRMLNodeComboBox.h@06536db",
        properties="currentNodeID currentNodeId nodeTypes showHidden showChildNodeTypes hideChildNodeTypes baseName "
        "noneEnabled addEnabled removeEnabled editEnabled renameEnabled interactionNodeSingletonTag "
        "selectNodeUponCreation noneDisplay sizeAdjustPolicy",
        methods="mrmlScene addAttribute removeAttribute setNodeTypeLabel nodeTypeLabel nodeCount nodeFromIndex "
        "currentNode sortFilterProxyModel addMenuAction setMRMLScene setCurrentNode setCurrentNodeID "
        "setCurrentNodeIndex addNode removeCurrentNode editCurrentNode renameCurrentNode",
        signals="currentNodeChanged(vtkMRMLNode*) currentNodeChanged(bool)=currentNodeValidChanged "
        "currentNodeIDChanged(QString) nodeActivated(vtkMRMLNode*) nodeAdded(vtkMRMLNode*) "
        "nodeAddedByUser(vtkMRMLNode*) nodeAddedByUserAction(vtkMRMLNode*) nodeAboutToBeRemoved(vtkMRMLNode*) "
        "currentNodeRenamed(QString) nodeAboutToBeEdited(vtkMRMLNode*)",
    ),
    "qMRMLSliderWidget": _allowed(
        MRML + "qMRMLSliderWidget.h@0a64c1c",
        properties="quantity unitAwareProperties",
        methods="mrmlScene setQuantity setMRMLScene setUnitAwareProperties",
    ),
    "qMRMLCollapsibleButton": _allowed(MRML + "qMRMLCollapsibleButton.h@0daa3b9"),
    "qMRMLTableView": _allowed(
        MRML + "qMRMLTableView.h@11a1fae",
        properties="transposed firstRowLocked firstColumnLocked",
        methods="mrmlScene mrmlTableViewNode mrmlTableNode tableModel sortFilterProxyModel setMRMLScene "
        "setMRMLTableViewNode setMRMLTableNode setTransposed setFirstRowLocked setFirstColumnLocked copySelection "
        "pasteSelection plotSelection insertRow insertColumn deleteRow deleteColumn",
        signals="mrmlSceneChanged(vtkMRMLScene*) selectionChanged()=tableSelectionChanged",
    ),
    "qMRMLSegmentsTableView": _allowed(
        SEGMENTATIONS + "qMRMLSegmentsTableView.h@cc420ec",
        properties="selectionMode headerVisible visibilityColumnVisible colorColumnVisible opacityColumnVisible "
        "statusColumnVisible layerColumnVisible readOnly filterBarVisible textFilter jumpToSelectedSegmentEnabled",
        methods="segmentationNode tableWidget selectedSegmentIDs setSelectedSegmentIDs clearSelection setHideSegments "
        "hideSegments displayedSegmentIDs sortFilterProxyModel model statusShown setSegmentationNode setMRMLScene "
        "setSelectionMode setHeaderVisible setVisibilityColumnVisible setColorColumnVisible setOpacityColumnVisible "
        "setStatusColumnVisible setLayerColumnVisible setReadOnly setFilterBarVisible showOnlySelectedSegments "
        "jumpSlices setJumpToSelectedSegmentEnabled setSelectedSegmentsStatus clearSelectedSegments "
        "moveSelectedSegmentsUp moveSelectedSegmentsDown setTextFilter setStatusShown",
        signals="selectionChanged(QItemSelection,QItemSelection) segmentAboutToBeModified(QString)",
    ),
    "qMRMLSegmentationShow3DButton": _allowed(
        SEGMENTATIONS + "qMRMLSegmentationShow3DButton.h@2f5068d",
        properties="locked",
        methods="segmentationNode setSegmentationNode setLocked",
    ),
    "qMRMLSliceWidget": _allowed(
        MRML + "qMRMLSliceWidget.h@032dc6d",
        properties="sliceOrientation",
        methods="sliceController mrmlSliceNode sliceLogic mrmlSliceCompositeNode interactorStyle sliceView "
        "imageDataConnection setMRMLSliceNode setSliceOrientation fitSliceToBackground",
    ),
    "qSlicerLayoutManager": _allowed(
        MRML + "qMRMLLayoutManager.h@1197aae",
        properties="enabled layout threeDViewCount tableViewCount plotViewCount",
        methods="mrmlViewFactories mrmlScene viewWidget sliceWidget sliceViewNames threeDWidget tableWidget plotWidget "
        "mrmlSliceLogics mrmlColorLogic layoutLogic setEnabled setMRMLScene setLayout resetThreeDViews resetSliceViews",
        signals="layoutChanged(int)",
    ),
    "qSlicerApplication": _allowed(
        GUI + "qSlicerApplication.h@0017d7a, " + CORE + "qSlicerCoreApplication.h@703a9d4",
        properties="slicerHome defaultScenePath slicerSharePath temporaryPath cachePath startupWorkingPath "
        "launcherExecutableFilePath launcherSettingsFilePath slicerUserSettingsFilePath extensionsInstallPath "
        "isInstalled releaseType repositoryRevision revision majorVersion minorVersion documentationBaseUrl "
        "documentationVersion documentationLanguage platform arch os isCustomMainApplication mainApplicationName "
        "mainApplicationRevision mainApplicationMajorVersion mainApplicationMinorVersion mainApplicationPatchVersion",
        methods="startupEnvironment environment setEnvironmentVariable mrmlScene applicationLogic moduleLogic "
        "extensionsManagerModel errorLogModel moduleManager coreIOManager ioManager defaultSettings userSettings "
        "settings revisionUserSettings moduleDocumentationUrl dicomDatabase layoutManager commandOptions pythonManager "
        "pythonConsole restart setRenderPaused pauseRender resumeRender loadFiles openUrl openNodeModule "
        "confirmRestart openExtensionsManagerDialog currentLogFile recentLogFiles testingEnabled "
        "openSettingsDialog logApplicationInformation toSlicerHomeAbsolutePath toSlicerHomeRelativePath "
        "addModuleAssociatedNodeType modulesAssociatedWithNodeType",
        signals="mrmlSceneChanged(vtkMRMLScene*) urlReceived(QString) startupCompleted() renderPaused(bool)",
    ),
    "qSlicerMainWindow": _allowed("Slicer/Slicer Applications/SlicerApp/qSlicerMainWindow.h", methods="moduleSelector"),
    "qSlicerModuleSelectorToolBar": _allowed(
        GUI + "qSlicerModuleSelectorToolBar.h",
        properties="selectedModule",
        methods="selectModule selectModuleByTitle selectNextModule selectPreviousModule",
        signals="moduleSelected(QString)",
    ),
    "qSlicerModuleManager": _allowed(
        CORE + "qSlicerModuleManager.h@008956c; signals as qSlicerModuleFactoryManager.h",
        methods="factoryManager module modulesNames isDependentModule",
        signals="moduleLoaded(QString) moduleAboutToBeUnloaded(QString)",
    ),
    "qSlicerModuleFactoryManager": _allowed(
        CORE + "qSlicerModuleFactoryManager.h",
        methods="loadModules loadedModuleNames isLoaded registerModule",
        signals="moduleLoaded(QString) moduleAboutToBeUnloaded(QString) moduleUnloaded(QString)",
    ),
    "qSlicerExtensionsManagerModel": _allowed(
        CORE + "qSlicerExtensionsManagerModel.h",
        properties="interactive",
        methods="isExtensionInstalled isExtensionEnabled extensionInstallPath extensionModulePaths "
        "extensionDescriptionFile extensionMetadata extensionsInstallPath",
    ),
    "ctkDICOMDatabase": _allowed(
        "commontk/CTK Libs/DICOM/Core/ctkDICOMDatabase.h",
        properties="isOpen lastError databaseFilename databaseDirectory",
        methods="instanceValue fileValue fileForInstance instancesForSeries seriesForFile filesForSeries patients "
        "studiesForPatient seriesForStudy",
    ),
    "qSlicerCoreIOManager": _allowed(
        CORE + "qSlicerCoreIOManager.h",
        methods="fileType loadNodes saveNodes exportNodes fileWriterFileType fileWriterExtensions "
        "extractKnownExtension registeredFileReaderCount openAddDataDialog openAddVolumeDialog openSaveDataDialog "
        "openDialog",
        signals="newFileLoaded(qSlicerIO::IOProperties)",
    ),
    "qSlicerCoreModule": _allowed(
        CORE + "qSlicerAbstractCoreModule.h (file id 2097990523 of the index read)",
        properties="name title categories contributors helpText acknowledgementText dependencies index hidden path "
        "isInstalled isBuiltIn associatedNodeTypes widgetRepresentationCreationEnabled slicerWikiUrl "
        "defaultDocumentationLink icon",
        methods="logic widgetRepresentation createNewWidgetRepresentation mrmlScene setMRMLScene",
    ),
    "qSlicerScriptedLoadableModule": _allowed(
        GUI + "qSlicerScriptedLoadableModule.h",
        properties="title categories contributors associatedNodeTypes helpText acknowledgementText extensions icon "
        "hidden dependencies index name path isInstalled isBuiltIn widgetRepresentationCreationEnabled "
        "slicerWikiUrl defaultDocumentationLink",
        methods="logic widgetRepresentation createNewWidgetRepresentation mrmlScene setMRMLScene",
    ),
    "qSlicerScriptedLoadableModuleWidget": _allowed(
        GUI + "qSlicerScriptedLoadableModuleWidget.h@032cf6c; reload, self, enter, exit as its PythonCppAPI",
        properties="moduleName",
        methods="self enter exit reload setup",
    ),
}
