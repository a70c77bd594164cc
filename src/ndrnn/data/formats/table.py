"""Tables with a header line: of tab-separated values, in which quotes are ordinary characters, or CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ..faults import BadFile, naming, printable
from ..readers.place import locate
from .storage import Storage, read_file


def find(table: str, storage: Storage | None, root: str = "") -> tuple[bytes, str]:
    """A table's bytes and what to call it: ``table`` is looked for among the data, beside it, then as a path."""
    if storage is not None and (among := storage.named(table)):
        return storage.read(among, text=True), storage.where(among)
    beside = None if storage is None else storage.path.parent / table
    path = beside if beside is not None and beside.is_file() else locate(table, root)
    return read_file(path, text=True), printable(str(path))


def rows(data: bytes, file: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """The lines as dictionaries by the names in the first line.

    With a tab in the first line columns are told apart by tabs, otherwise by commas or semicolons with the quotes of CSV.

    Raises:
        BadFile: the text is not UTF-8, a needed column is missing, or a line has another number of fields.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(file, f"not UTF-8 ({error})") from error
    first = next((line for line in text.splitlines() if line), "")
    if not first:
        raise BadFile(file, "is empty")
    table = (
        _of_tabs(text)
        if "\t" in first
        else _of_csv(text, "," if first.count(",") >= first.count(";") else ";", file)
    )
    head = table[0][1]
    missing = [name for name in needed if name not in head]
    if missing:
        raise BadFile(file, f"must have the columns {', '.join(needed)}, got {', '.join(head)}")
    result = []
    for number, fields in table[1:]:
        if len(fields) != len(head):
            raise BadFile(file, f"line {number} has {len(fields)} fields, the first line {len(head)}")
        result.append(dict(zip(head, fields, strict=True)))
    return result


def _of_tabs(text: str) -> list[tuple[int, list[str]]]:
    """The fields of each line that is not empty, and its number."""
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    return [(number, line.split("\t")) for number, line in enumerate(lines, start=1)]


def _of_csv(text: str, delimiter: str, file: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    with naming(file, "not a CSV table"):
        return [(reader.line_num, fields) for fields in reader if fields]
