"""What was read in lines, page by page: written back into PAGE and ALTO files, as new files, hOCR or plain text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.faults import BadFile
from ..data.formats import newpage
from ..data.formats.outlines import box_of
from ..data.formats.writeback import write_back
from ..data.reading import Block, ReadLine
from ..saving.atomic import replacing
from .inputs import Input, Loader
from .outputs import Outputs

SUFFIXES = {"page": ".xml", "alto": ".xml", "hocr": ".hocr", "txt": ".txt"}
"""Endings of the results, by the format that was asked for."""


@dataclass
class _Sheet:
    """A page, or an image that is one line, while its lines come."""

    file: Input
    path: Path
    lines: dict[int, ReadLine] = field(default_factory=dict)
    scales: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] = (0, 0)

    @property
    def key(self) -> str:
        return key(self.file)

    def blocks(self) -> list[Block]:
        """The blocks of the page, in pixels."""
        told = () if self.file.page is None else self.file.page.layout.blocks
        across, down = self.scales
        return [Block(block.name, [(x * across, y * down) for x, y in block.outline]) for block in told]


def key(file: Input) -> str:
    """What all lines of a page have in common."""
    return file.place if file.page is None else f"{file.storage.path}/{file.page.name}"


class Transcripts:
    """Gathers the lines of each page, and writes the page when the next one begins.

    Args:
        kind: one of ``SUFFIXES``; with another, such as ``"jsonl"``, nothing is written.
        folder: where the results go.
        loader: knows where the lines lie.
    """

    def __init__(self, kind: str, folder: Path | None, loader: Loader) -> None:
        self.kind = kind
        self.folder = folder
        self.loader = loader
        self._sheets: dict[str, _Sheet] = {}
        self._current = ""

    def claim(self, outputs: Outputs, file: Input) -> None:
        """Say that a result will be written for a file; raises as :meth:`Outputs.claim` does."""
        if self.kind not in SUFFIXES or self.folder is None or key(file) in self._sheets:
            return
        path = self.folder / f"{file.sheet or file.place}{SUFFIXES[self.kind]}"
        outputs.claim(path, file.where if file.page is None else file.page.where)
        self._sheets[key(file)] = _Sheet(file, path)

    def read(self, file: Input, one: Any) -> dict[str, Any]:
        """Take what was read in a file; gives what is told of it."""
        place, scales, size = self.loader.place(file)
        words = tuple((word, place.part(word.start, word.end)) for word in one.words)
        if sheet := self._sheets.get(key(file)):
            line = None if file.page is None else file.page.layout.lines[file.line]
            block = -1 if line is None or isinstance(line, BadFile) else line.block
            name = "" if line is None or isinstance(line, BadFile) else line.name
            sheet.lines[file.line] = ReadLine(one.text, one.confidence, words, place.outline, name, block)
            sheet.scales, sheet.size = scales, size
        return {
            "text": one.text,
            "confidence": round(float(one.confidence), 4),
            "log_probability": round(float(one.log_probability), 4),
            "characters": [round(value, 4) for value in one.characters],
            "words": [
                {
                    "text": word.text,
                    "confidence": round(word.confidence, 4),
                    "box": [round(value) for value in box_of(outline)],
                }
                for word, outline in words
            ],
        }

    def reached(self, file: Input | None) -> None:
        """All files before this one were read, or with None all; raises :class:`ndrnn.data.BadFile`."""
        last, self._current = self._current, "" if file is None else key(file)
        if last and last != self._current and (sheet := self._sheets.pop(last, None)):
            with replacing(_made(sheet.path)) as temporary:
                temporary.write_bytes(self._written(sheet))

    def _written(self, sheet: _Sheet) -> bytes:
        page = sheet.file.page
        if page is not None and page.layout.kind == self.kind:
            data = page.storage.read(page.name, text=True)
            return write_back(data, page.layout, sheet.lines, sheet.scales, page.where)
        order = (0,) if page is None else page.layout.order
        lines = [sheet.lines[number] for number in order if number in sheet.lines]
        if self.kind == "txt":
            return newpage.plain(lines)
        make: Callable[..., bytes] = {"page": newpage.page, "alto": newpage.alto, "hocr": newpage.hocr}[
            self.kind
        ]
        return make(lines, PurePosixPath(sheet.file.name).name, sheet.size, sheet.blocks())


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
