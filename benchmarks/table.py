"""Tables of results: printed as Markdown, kept as JSON; ``python -m benchmarks.table FILE`` prints a kept one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ndrnn.saving.atomic import replacing

Value = float | str | list[float] | None


@dataclass
class Table:
    """Rows of values under named columns, each with the format that shows it; None is shown as a dash."""

    title: str
    columns: dict[str, str]
    rows: list[list[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *values: Value) -> None:
        if len(values) != len(self.columns):
            raise ValueError(f"a row of {self.title!r} has {len(self.columns)} values, got {len(values)}")
        self.rows.append(list(values))

    def markdown(self) -> str:
        cells = [list(self.columns)]
        for row in self.rows:
            cells.append([_show(value, form) for value, form in zip(row, self.columns.values(), strict=True)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"### {self.title}", "", *lines, *(f"\n{note}" for note in self.notes)])


def _show(value: Value, form: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " / ".join(format(one, form) for one in value)
    return value if isinstance(value, str) else format(value, form)


def to_json(machine: dict[str, Any], tables: Sequence[Table]) -> str:
    content = {"machine": machine, "tables": [asdict(table) for table in tables]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def report(machine: dict[str, Any], tables: Sequence[Table]) -> str:
    """All of a run as Markdown."""
    described = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n\n".join([described, *(table.markdown() for table in tables)]) + "\n"


def publish(machine: dict[str, Any], tables: Sequence[Table], path: Path | None) -> None:
    """Print all of a run, and keep it as JSON where a path is given."""
    print(report(machine, tables), end="")
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(to_json(machine, tables), encoding="utf-8")


if __name__ == "__main__":
    content = json.loads(Path(sys.argv[1]).read_text())
    print(report(content["machine"], [Table(**table) for table in content["tables"]]), end="")
