"""``ndrnn compare``: runs in one table."""

from __future__ import annotations

from ..comparing import as_values, columns, describe
from ..once import Once
from ..options import Compare
from ..output import Output


def run(options: Compare) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    once = Once(out.warn)
    with out.others():
        runs = [
            describe(folder)
            for path in options.runs
            for folder in once.new(path, [path], lambda folder: folder.resolve())
        ]
    head, rows = columns(runs)
    out.table(rows, head)
    out.result({"runs": as_values(runs)})
    return 0
