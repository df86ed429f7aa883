"""Module `SampleData`: sources are registered and loaded from local files; nothing is ever downloaded.

Names as in Slicer/Slicer Modules/Scripted/SampleData/SampleData.py (registerCustomSampleDataSource, file id
20151967242).
"""

import inspect
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import slicer


class DownloadRefusedError(RuntimeError):
    """A test ran into a real download."""


class SampleDataSource:
    """One entry of the Sample Data module."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


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
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = {},  # noqa: B006 - the real signature
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        fields = {name: value for name, value in locals().items() if name != "category"}
        for name in ("uris", "fileNames", "nodeNames", "checksums"):
            if isinstance(fields[name], str):
                fields[name] = [fields[name]]
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        slicer.modules.sampleDataSources.setdefault(category, []).append(SampleDataSource(**fields))

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        known = getattr(slicer.modules, "sampleDataSources", {})
        return known if category is None else known.get(category, [])

    def sourceForSampleName(self, name: str) -> Any:
        known = getattr(slicer.modules, "sampleDataSources", {})
        return next((s for sources in known.values() for s in sources if s.sampleName == name), None)

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
        return nodes


def downloadSample(name: str) -> Any:
    return SampleDataLogic().downloadSample(name)


def downloadSamples(name: str) -> Any:
    return SampleDataLogic().downloadSamples(name)
