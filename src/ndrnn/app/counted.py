"""How many inputs there were, and what is said of them: files, or lines of pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .inputs import Input
from .transcripts import key


@dataclass(frozen=True)
class Counted:
    """How much there was to do."""

    inputs: int
    """Files, or lines."""
    pages: int = 0
    """Of which these are the lines."""
    others: int = 0
    """Files that cannot be used, and are not among them."""

    @classmethod
    def of(cls, files: Sequence[Input], others: int) -> Counted:
        """What was found, and how many files cannot be used."""
        return cls(len(files), len({key(file) for file in files if file.page is not None}), others)

    @property
    def files(self) -> int:
        """All that can be used and all that cannot; pages count as what describes them."""
        return (self.pages or self.inputs) + self.others

    def described(self) -> dict[str, int]:
        """For JSON, what there is to tell besides the number of files."""
        return {"pages": self.pages, "lines": self.inputs} if self.pages else {}

    def done(self, count: int) -> str:
        """That so many of the inputs are done."""
        if self.pages:
            return f"{_of(count, self.inputs, 'line')} on {self.pages:,} page{'' if self.pages == 1 else 's'}"
        return _of(count, self.files, "file")

    def missed(self, done: int, faults: int) -> str:
        """What could not be used."""
        if not self.pages:
            return f"{_of(faults, self.files, 'file')} could not be used"
        lines = self.inputs - done
        rest = faults - lines
        told = [_of(lines, self.inputs, "line")] if lines else []
        told += [f"{rest:,} {'page or image' if rest == 1 else 'pages or images'}"] if rest > 0 else []
        return f"{' and '.join(told)} could not be used"


def _of(part: int, whole: int, what: str) -> str:
    return f"{part:,} of {whole:,} {what}{'' if whole == 1 else 's'}"
