"""Files by name, in a folder or in a zip archive that is read in place."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..faults import BadFile

_LARGEST = 4 << 30  # of one member of an archive: a few bytes may announce more than any memory holds


class Storage(ABC):
    """A tree of files.

    ``names`` are paths relative to its root with ``/`` between their parts, sorted, without hidden files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []

    @abstractmethod
    def read(self, name: str) -> bytes:
        """What a file holds.

        Raises:
            BadFile: it is missing or damaged.
        """

    @abstractmethod
    def where(self, name: str) -> str:
        """The file as a person would look for it."""

    def under(self, folder: str, suffixes: Iterable[str]) -> list[str]:
        """Names within ``folder`` and its folders that end in one of ``suffixes``, whatever their case."""
        prefix, endings = f"{folder.strip('/')}/" if folder.strip("/.") else "", tuple(suffixes)
        return [name for name in self.names if name.startswith(prefix) and name.lower().endswith(endings)]


class Folder(Storage):
    """A folder and those within it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for root, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            relative = Path(root).relative_to(path)
            self.names += [(relative / name).as_posix() for name in files if not name.startswith(".")]
        self.names.sort()

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise BadFile(self.where(name), error.strerror or str(error)) from error

    def where(self, name: str) -> str:
        return str(self.path / name)


class Archive(Storage):
    """A zip archive; each process that reads from it opens it for itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._open: tuple[int, zipfile.ZipFile] | None = None
        self.names = sorted(
            info.filename
            for info in self._archive().infolist()
            if not info.is_dir()
            and not info.filename.startswith("__MACOSX/")
            and not PurePosixPath(info.filename).name.startswith(".")
        )

    def read(self, name: str) -> bytes:
        try:
            info = self._archive().getinfo(name)
            if info.file_size > _LARGEST:
                raise BadFile(
                    self.where(name), f"announces {info.file_size} bytes, more than {_LARGEST} are not read"
                )
            return self._archive().read(info)
        except KeyError as error:
            raise BadFile(self.where(name), "is not in the archive") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadFile(self.where(name), f"damaged member of the archive ({error})") from error

    def where(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _archive(self) -> zipfile.ZipFile:
        # an open file shared by forked workers would have one position for all of them
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise BadFile(str(self.path), f"not a whole zip archive ({error})") from error
        return self._open[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}


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
