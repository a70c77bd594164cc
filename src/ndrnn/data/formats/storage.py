"""Files by name, in a folder or in a zip archive that is read in place."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..faults import BadFile, naming, printable
from .limits import check_deflated, check_size


class Storage(ABC):
    """A tree of files.

    ``names`` are paths relative to its root with ``/`` between their parts, sorted, without hidden files; ``faults``
    tell what of it could not be looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.faults: list[BadFile] = []

    @cached_property
    def _known(self) -> dict[str, str]:
        return {**{same(name): name for name in self.names}, **{name: name for name in self.names}}

    def named(self, name: str) -> str | None:
        """The file of this name, in whatever form its letters are composed, or None."""
        return self._known.get(name) or self._known.get(same(name))

    @abstractmethod
    def read(self, name: str, *, text: bool = False) -> bytes:
        """What a file holds; of ``text`` less is taken.

        Raises:
            BadFile: it is missing, damaged, no plain file, or larger than may be read.
        """

    @abstractmethod
    def where(self, name: str) -> str:
        """The file as a person would look for it, in characters that can be printed."""

    def under(self, folder: str, suffixes: Iterable[str]) -> list[str]:
        """Names within ``folder`` and its folders that end in one of ``suffixes``, whatever their case."""
        prefix, endings = f"{same(folder).strip('/')}/" if folder.strip("/.") else "", tuple(suffixes)
        return [
            name for name in self.names if same(name).startswith(prefix) and name.lower().endswith(endings)
        ]


class Folder(Storage):
    """A folder and those within it; links are followed, but not back to a folder that one is in."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._walk()

    def read(self, name: str, *, text: bool = False) -> bytes:
        return read_file(self.path / name, text=text)

    def where(self, name: str) -> str:
        return printable(str(self.path / name))

    def _walk(self) -> None:
        pending = [("", frozenset([_identity(self.path)]))]
        while pending:
            folder, above = pending.pop()
            try:
                with os.scandir(self.path / folder) as entries:
                    found = [(entry.name, entry.is_dir()) for entry in entries if entry.name[0] != "."]
            except OSError as error:
                reason = f"folder cannot be looked into ({error.strerror or error})"
                self.faults.append(BadFile(self.where(folder), reason))
                continue
            for name, is_folder in found:
                relative = f"{folder}/{name}" if folder else name
                if not is_folder:
                    self.names.append(relative)
                elif (identity := _identity(self.path / relative)) not in above:
                    pending.append((relative, above | {identity}))
        self.names.sort()
        self.faults.sort(key=lambda fault: fault.file)


class Archive(Storage):
    """A zip archive; each process that reads from it opens it for itself.

    Members whose names lead out of it are faults.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._open: tuple[int, zipfile.ZipFile] | None = None
        members = Counter(
            info.filename
            for info in self._archive().infolist()
            if not info.is_dir() and "__MACOSX" not in PurePosixPath(info.filename).parts
        )
        for name, times in sorted(members.items()):
            if _leads_out(name):
                self.faults.append(
                    BadFile(self.where(name), "the name of this member leads out of the archive")
                )
                continue
            if any(part.startswith(".") for part in PurePosixPath(name).parts):
                continue
            self.names.append(name)
            if times > 1:
                self.faults.append(
                    BadFile(self.where(name), f"is in the archive {times} times, only the last is read")
                )

    def read(self, name: str, *, text: bool = False) -> bytes:
        where = self.where(name)
        archive = self._archive()
        try:
            info = archive.getinfo(name)
        except KeyError as error:
            raise BadFile(where, "is not in the archive") from error
        check_size(info.file_size, where, text=text)
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            check_deflated(info.file_size, info.compress_size, where)
        with naming(where, "damaged member of the archive"):
            return archive.read(info)

    def where(self, name: str) -> str:
        return printable(f"{self.path}/{name}")

    def _archive(self) -> zipfile.ZipFile:
        # an open file shared by forked workers would have one position for all of them
        if self._open is None or self._open[0] != os.getpid():
            with naming(printable(str(self.path)), "not a whole zip archive"):
                self._open = os.getpid(), zipfile.ZipFile(self.path)
        assert self._open is not None
        return self._open[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}


def same(name: str) -> str:
    """A name as it is compared: composed (NFC). Macs write letters and their accents apart, into archives too."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def open_storage(path: str | Path) -> Storage:
    """The files of a folder or of a zip archive.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        BadFile: it is neither a folder nor a whole archive.
    """
    path = Path(path)
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder or zip archive")
    return Archive(path)


def read_file(path: Path, *, text: bool = False) -> bytes:
    """What a plain file holds; of ``text`` less is taken.

    Raises:
        BadFile: it is missing, no plain file (a pipe would never end), or larger than may be read.
    """
    where = printable(str(path))
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadFile(where, "is no plain file")
        check_size(found.st_size, where, text=text)
        return path.read_bytes()
    except OSError as error:
        raise BadFile(where, error.strerror or str(error)) from error


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError:  # it is named when it is looked into
        return -1, -1
    return found.st_dev, found.st_ino


def _leads_out(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return ".." in parts or not parts[0] or parts[0].endswith(":")
