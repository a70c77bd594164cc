"""XML of strangers as a tree of elements, and back: no entities, no files or addresses of others, bounded depth."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat

from ..faults import BadFile, naming

_DEPTH = 100  # elements within each other; files of these kinds need about ten


def tree(data: bytes, file: str, *, as_written: bool = False) -> Element:
    """The root of the elements.

    Names come without their namespaces, which differ with the version; or ``as_written``, with prefixes, declarations of
    namespaces and comments, so that :func:`written` gives the same again.

    Raises:
        BadFile: it is no XML, declares or needs entities, or is too deep.
    """
    builder = TreeBuilder(insert_comments=as_written, insert_pis=as_written)
    depth = 0

    def local(name: str) -> str:
        return name if as_written else local_name(name)

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH:
            raise BadFile(file, f"has more than {_DEPTH} elements within each other")
        builder.start(local(tag), {local(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(local(tag))

    def entity(*declaration: object) -> NoReturn:
        # entities of entities grow without end, and others name files and addresses
        raise BadFile(file, f"declares an entity ({declaration[0]}); such files are not read")

    def skipped(name: str, _: object) -> NoReturn:
        # one that a file elsewhere declares; what it stands for would be missing in the text
        raise BadFile(file, f"uses the entity {name}, which it does not declare")

    def comment(text: str) -> None:
        if depth:  # what stands before the root belongs to no element
            builder.comment(text)

    def instruction(target: str, text: str) -> None:
        if depth:
            builder.pi(target, text)

    parser = expat.ParserCreate() if as_written else expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = entity
    parser.SkippedEntityHandler = skipped
    if as_written:
        parser.CommentHandler, parser.ProcessingInstructionHandler = comment, instruction
    try:
        with naming(file, "not XML"):
            parser.Parse(data, True)
            root = builder.close()
    finally:
        # the handlers hold the parser, and it holds them
        parser.StartElementHandler = parser.EndElementHandler = None
        parser.CharacterDataHandler = parser.EntityDeclHandler = parser.SkippedEntityHandler = None
        parser.CommentHandler = parser.ProcessingInstructionHandler = None
    return root


def written(root: Element) -> bytes:
    """The file of a tree, in UTF-8."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="utf-8") + b"\n"


def local_name(name: object) -> str:
    """An element's name without its namespace or prefix; nothing for comments and instructions."""
    return name.rpartition("}")[2].rpartition(":")[2] if isinstance(name, str) else ""
