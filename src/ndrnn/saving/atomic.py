"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_PART = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})\.(?P<process>[0-9]+)\.part", re.DOTALL)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place when the block ends without an error.

    Whatever stood at ``path`` stays until then, and stays for good when the block fails. The new content is on the
    disk before it gets the name, so that a power cut leaves the one or the other.
    """
    path = Path(path)
    # of a long name only its beginning, so that the temporary one is not too long for the disk
    mark = f"{threading.get_ident():x}.{_machine()}.{os.getpid()}"  # of threads each has its own
    temporary = path.with_name(f".{path.name[:40]}.{mark}.part")
    try:
        with _failing_as_system(path):
            yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_FULL = ("I/O error", "iostream error", "PytorchStreamWriter failed", "inline_container.cc")


@contextmanager
def _failing_as_system(path: Path) -> Iterator[None]:
    """A full disk is an OSError that names the file, whatever a library makes of it that writes from compiled code."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except Exception as error:
        if any(words in str(error) for words in _FULL):
            raise OSError(f"{path}: cannot be written ({error})") from error
        raise


def sweep(folder: str | Path) -> None:
    """Remove what killed processes of this machine have left behind in ``folder`` under the names of ``replacing``.

    Whether a process of another machine still runs cannot be known: what bears another mark stays.
    """
    for part in Path(folder).glob(".*.part"):
        named = _PART.fullmatch(part.name)
        if named and named["machine"] == _machine() and not _runs(int(named["process"])):
            part.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """A mark of this machine, and where containers on it have process numbers of their own, of this container."""
    marks = [platform.node()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            marks.append(read())
        except (OSError, ValueError):  # not Linux
            marks.append("")
    return f"{zlib.crc32(chr(0).join(marks).encode()):08x}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
