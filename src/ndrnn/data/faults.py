"""Files that cannot be used: named with a reason, and counted or refused."""

from __future__ import annotations

from dataclasses import dataclass, field


class BadFile(ValueError):
    """A file that cannot be used, and why."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


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
