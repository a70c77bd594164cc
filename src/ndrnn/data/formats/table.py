"""Tables of tab-separated values with a header line; quotes are ordinary characters."""

from __future__ import annotations

from collections.abc import Sequence

from ..faults import BadFile, printable
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

    Raises:
        BadFile: the text is not UTF-8, a needed column is missing, or a line has another number of fields.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(file, f"not UTF-8 ({error})") from error
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if not lines:
        raise BadFile(file, "is empty")
    head = lines[0].split("\t")
    missing = [name for name in needed if name not in head]
    if missing:
        raise BadFile(file, f"must have the columns {', '.join(needed)}, got {', '.join(head)}")
    result = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(head):
            raise BadFile(file, f"line {number} has {len(fields)} fields, the first line {len(head)}")
        result.append(dict(zip(head, fields, strict=True)))
    return result
