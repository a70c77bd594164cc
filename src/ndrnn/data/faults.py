"""Files that cannot be used: named with a reason, and counted or refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def printable(name: str) -> str:
    """A file's name as it can be printed and written: bytes that are no UTF-8, and control characters, as ``\\xff``."""
    return "".join(_escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return f"\\x{code:02x}" if code < 0x20 or 0x7F <= code < 0xA0 else letter


class BadFile(ValueError):
    """A file that cannot be used, and why; both can be printed, whatever the file or its name holds."""

    def __init__(self, file: str, reason: str) -> None:
        file, reason = printable(file), printable(" ".join(reason.splitlines()))
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadFile], tuple[str, str]]:
        return type(self), (self.file, self.reason)  # workers hand their errors on


@dataclass
class Faults:
    """Keeps the list of files that were left out; with ``strict`` the first of them ends the reading.

    A fault without which the rest is still good is added with :meth:`add`.
    """

    strict: bool = False
    found: list[BadFile] = field(default_factory=list)

    def add(self, fault: BadFile) -> None:
        if self.strict:
            raise fault
        self.found.append(fault)

    def __len__(self) -> int:
        return len(self.found)


@contextmanager
def naming(file: str, what: str = "cannot be read") -> Iterator[None]:
    """Whatever is raised within the block becomes a :class:`BadFile` of ``file``, so that the others can be done.

    What is missing in the installation, not in the file, stays as it is.
    """
    try:
        yield
    except (BadFile, ImportError):
        raise
    except MemoryError as error:
        raise BadFile(file, f"{what}: there is not enough memory for it") from error
    except Exception as error:
        raise BadFile(file, f"{what} ({_told(error)})") from error


def _told(error: Exception) -> str:
    text = str(error)
    # these say what is wrong; of others the name is half of it
    if text and isinstance(error, (OSError, ValueError, SyntaxError, EOFError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
