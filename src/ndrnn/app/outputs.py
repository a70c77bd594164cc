"""Where results may be written: within their folder, over no original, over older files only by ``--force``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..data.faults import BadFile

_LONGEST = 255  # bytes of a name, on every usual file system


class Outputs:
    """The files that a command is going to write, claimed before any work is done for them.

    Args:
        force: whether files that are there already may be overwritten.
        originals: files that the command reads; they are never overwritten.
        folder: all results must lie in it, whatever names and links lead to.
    """

    def __init__(self, *, force: bool, originals: Iterable[Path] = (), folder: Path | None = None) -> None:
        self.force = force
        self.folder = None if folder is None else folder.resolve()
        self._originals = {path.resolve() for path in originals}
        self._claimed: set[Path] = set()
        self._above: set[Path] = set()

    def claim(self, path: Path, of: str = "") -> Path:
        """The path itself, if a result may be written there; nothing is made yet.

        Args:
            path: of the result.
            of: what it is the result of, for messages.

        Raises:
            BadFile: it would lie outside the folder, where the name of ``of`` leads, within a file or in place of a
                folder, or its name is too long.
            ValueError: it is an original, or another result, or it is there already and ``force`` was not given.
        """
        try:
            meant = path.resolve()
            exists, is_folder = meant.exists(), meant.is_dir()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, a NUL
            raise BadFile(of or str(path), f"its name makes no file for its result ({error})") from error
        if len(os.fsencode(meant.name)) > _LONGEST:
            raise BadFile(of or str(path), f"its name is too long for its result {meant.name}")
        if self.folder is not None and not meant.is_relative_to(self.folder):
            raise BadFile(
                of or str(path), f"its result would be written outside of {self.folder}, to {meant}"
            )
        taken = next((above for above in meant.parents if above in self._claimed or above.is_file()), None)
        if taken is not None:
            raise BadFile(of or str(path), f"its result would lie in {taken}, which is a file")
        if meant in self._above:
            raise BadFile(of or str(path), f"its result {meant} would be a folder of other results")
        if meant in self._originals:
            raise ValueError(f"{path} is an original and would be overwritten; name another --out")
        if meant in self._claimed:
            raise ValueError(
                f"{path} would be the result of two inputs; use them one by one, each with an --out"
            )
        if is_folder:
            raise ValueError(f"{path} must be a file to write, got a folder")
        if exists and not self.force:
            raise ValueError(f"{path} exists already; name another --out, or overwrite it by --force")
        self._claimed.add(meant)
        self._above.update(meant.parents)
        return path
