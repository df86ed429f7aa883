"""Module `SampleData`: sources are registered and loaded from local files; nothing is ever downloaded.

Names, and that what is registered already is skipped, as in Slicer/Slicer
Modules/Scripted/SampleData/SampleData.py@01c2def.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import slicer


class DownloadRefusedError(RuntimeError):
    """A test ran into a real download."""


@dataclass
class SampleDataSource:
    """One entry of the Sample Data module; those with the same fields are the same."""

    sampleName: str | None = None
    uris: Any = None
    fileNames: Any = None
    nodeNames: Any = None
    checksums: Any = None
    loadFiles: Any = None
    customDownloader: Any = None
    thumbnailFileName: str | None = None
    loadFileType: Any = None
    loadFileProperties: Any = None

    def __post_init__(self) -> None:
        for name in ("uris", "fileNames", "nodeNames", "checksums"):
            if isinstance(getattr(self, name), str):
                setattr(self, name, [getattr(self, name)])


class SampleDataLogic:
    """Registers and loads sample data."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: Any = {},  # noqa: B006 - the real signature
        checksums: Any = None,
    ) -> None:
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            checksums=checksums,
            loadFiles=loadFiles,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileType=loadFileType,
            loadFileProperties=loadFileProperties,
        )
        if not SampleDataLogic.isSampleDataSourceRegistered(category, source):
            slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        known = _sources()
        return known if category is None else known.get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category: str, sampleDataSource: SampleDataSource) -> bool:
        return sampleDataSource in _sources().get(category, [])

    def sourceForSampleName(self, name: str) -> Any:
        return next((s for sources in _sources().values() for s in sources if s.sampleName == name), None)

    def downloadSamples(self, name: str) -> list[Any]:
        source = self.sourceForSampleName(name)
        return [] if source is None else self.downloadFromSource(source)

    def downloadSample(self, name: str) -> Any:
        nodes = self.downloadSamples(name)
        return nodes[0] if nodes else None

    def downloadFromSource(self, source: Any, maximumAttemptsCount: int = 3) -> Any:
        if source.customDownloader is not None:
            if len(inspect.signature(source.customDownloader).parameters) != 1:
                raise TypeError("a custom downloader takes the source as its only argument")
            return source.customDownloader(source)
        nodes = []
        for uri, node_name in zip(source.uris, source.nodeNames, strict=True):
            parts = urlparse(uri)
            if parts.scheme != "file":
                raise DownloadRefusedError(f"{uri} would be downloaded")
            path = unquote(parts.path)
            if not Path(path).is_file():
                raise FileNotFoundError(path)
            nodes.append(slicer.util.loadVolume(path, {"name": node_name}))
            # The files lie in a cache that goes.
            slicer.mrmlScene.RemoveNode(nodes[-1].GetStorageNode())
            nodes[-1].SetAndObserveStorageNodeID(None)
        return nodes


def _sources() -> dict[str, list[SampleDataSource]]:
    """By category, kept where Slicer keeps them."""
    if not hasattr(slicer.modules, "sampleDataSources"):
        slicer.modules.sampleDataSources = {}
    return slicer.modules.sampleDataSources


def downloadSample(name: str) -> Any:
    return SampleDataLogic().downloadSample(name)


def downloadSamples(name: str) -> Any:
    return SampleDataLogic().downloadSamples(name)
