"""Where data is: paths of recipes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NDRNN_DATA"
"""The environment variable that names the folder with all data sets."""


def locate(path: str, root: str = "") -> Path:
    """The file or folder that ``path`` means: absolute, or below ``root``, ``$NDRNN_DATA`` or the current folder.

    Raises:
        FileNotFoundError: there is nothing; the message tells where it was looked for.
        ValueError: ``path`` is empty.
    """
    if not path:
        raise ValueError("data.path must name a folder, an archive or a file, got nothing")
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        tried = [wanted]
    else:
        roots = [root] if root else [os.environ[VARIABLE], "."] if os.environ.get(VARIABLE) else ["."]
        tried = [Path(base).expanduser() / wanted for base in roots]
    for candidate in tried:
        if candidate.exists():
            return candidate
    hint = "" if root or wanted.is_absolute() else f"; --data.root or ${VARIABLE} tells where data is"
    raise FileNotFoundError(f"no such file or folder: {', '.join(map(str, tried))}{hint}")
