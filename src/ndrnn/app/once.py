"""Inputs that a command line names several times: each is used once, and that is said."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def identity(path: Path) -> str:
    """What all names of a file have in common. A link to a file is one of its own, unlike links to the folders above."""
    return str(path.parent.resolve() / path.name)


class Once:
    """Lets through what no path before has named.

    Args:
        tell: gets a sentence for each path of which something was named before.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._seen: set[Hashable] = set()

    def new(
        self, path: Path, items: Iterable[Item], of: Callable[[Item], Hashable], what: str = "files"
    ) -> list[Item]:
        """Those items of a path that are of nothing that an earlier path has.

        Args:
            path: as it was named.
            items: what is there.
            of: the file that an item is, or is a part of.
            what: to call the files.
        """
        own = [(of(item), item) for item in items]
        all_of_it = {file for file, _ in own}
        again = all_of_it & self._seen
        self._seen |= all_of_it
        if again:
            share = "" if again == all_of_it else f"{len(again):,} of its {len(all_of_it):,} {what}: "
            self.tell(f"note: {path}: {share}named before, and used once")
        return [item for file, item in own if file not in again]
