"""``python -m benchmarks.made streets|nuclei|hippocampus|lines --seed 0 --out FOLDER``: see the package."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import hippocampus, lines, nuclei, streets

KINDS = {"streets": streets, "nuclei": nuclei, "hippocampus": hippocampus, "lines": lines}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make one data set; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.made", description="Make a data set of our own, in the form of a recipe's."
    )
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="another one makes another set (0)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where its files go")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the set is made, up to 1 (1)")
    parser.add_argument(
        "--fonts", metavar="FOLDER", type=Path, help="lines: fonts of yours in place of those of matplotlib"
    )
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, got {options.seed}")
    if not 0 < options.share <= 1:
        parser.error(f"--share must be above 0 and at most 1, got {options.share:g}")
    if options.fonts and options.kind != "lines":
        parser.error(f"--fonts goes with lines alone, got {options.kind}")
    maker = KINDS[options.kind]
    targets = [options.out / name for name in maker.FILES]
    if there := [str(path) for path in targets if path.exists()]:
        parser.error(f"{', '.join(there)}: there already; nothing is replaced, name another folder")
    options.out.mkdir(parents=True, exist_ok=True)
    began = shown = time.monotonic()

    def progress(what: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"[{shown - began:4.0f} s] {what}", file=sys.stderr, flush=True)

    extra = {"fonts": options.fonts} if options.fonts else {}
    try:
        maker.make(options.out, options.seed, options.share, progress, **extra)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    for path in targets:
        content = path.read_bytes()
        print(f"{path}  {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}")
    print(f"ndrnn check {maker.RECIPE} --data.path {shlex.quote(str(targets[0].resolve()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
