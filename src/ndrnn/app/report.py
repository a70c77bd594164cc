"""A report as one HTML page that holds everything it shows and loads nothing.

A page is sections, a section is paragraphs, figures and tables in the order in which they were added::

    report = Report("Digits", "What was done, in a sentence.")
    report.section("How it learned").text("...").figure(figure, "what it shows")
    report.write("report.html")
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..saving.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #5d6675; --line: #e3e6eb; --accent: #2458a6; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink); font: 17px/1.6 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.02em; }
h2 { font-size: 1.3rem; margin: 0 0 .6rem; }
header p { font-size: 1.15rem; color: var(--soft); max-width: 44rem; margin: 0 0 2rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 1.5rem 1.75rem; margin: 0 0 1.25rem; }
section p { max-width: 46rem; margin: 0 0 .8rem; }
section p.note { border-left: 4px solid #d9902f; padding-left: .9rem; }
figure { margin: 1rem 0 .4rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: .92rem; max-width: 46rem; margin: .6rem auto 0; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 0; }
dl div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
dt { color: var(--soft); font-size: .9rem; }
dd { margin: 0; font-size: 1.7rem; font-weight: 600; color: var(--accent); line-height: 1.25; white-space: nowrap; }
table { border-collapse: collapse; margin: .4rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1.5rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
footer { color: var(--soft); font-size: .85rem; }
"""


class Section:
    """A part of a report; every method adds to its end and returns the section."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []

    def text(self, *paragraphs: str) -> Section:
        """Paragraphs of plain text."""
        self._parts += [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]
        return self

    def note(self, paragraph: str) -> Section:
        """A paragraph that must not be overlooked."""
        self._parts.append(f'<p class="note">{escape(paragraph)}</p>')
        return self

    def numbers(self, values: Mapping[str, str]) -> Section:
        """A few results in large type: what is measured, and how much it is."""
        pairs = (
            f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in values.items()
        )
        self._parts.append(f"<dl>{''.join(pairs)}</dl>")
        return self

    def table(self, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> Section:
        """Rows of cells, the first of each row being its name."""
        lines = [_row(head, "th", "th")] if head else []
        lines += [_row(row, "th", "td") for row in rows]
        self._parts.append(f"<table>{''.join(lines)}</table>")
        return self

    def figure(self, figure: Figure, caption: str, *, vector: bool = False) -> Section:
        """A matplotlib figure, as PNG or, for lines and text, as SVG; the caption also serves who cannot see it."""
        buffer = io.BytesIO()
        if vector:
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        else:
            figure.savefig(buffer, format="png", dpi=180)
        kind = "svg+xml" if vector else "png"
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        # twice the pixels for sharp screens, the size on the page being that of the figure
        width = round(96 * figure.get_size_inches()[0])
        picture = f'<img width="{width}" alt="{escape(caption)}" src="data:image/{kind};base64,{data}">'
        self._parts.append(f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>")
        return self

    def html(self) -> str:
        parts = "\n".join(self._parts)
        return f"<section><h2>{escape(self.title)}</h2>\n{parts}\n</section>"


class Report:
    """A page with a title, a sentence or two that say what it is about, and sections."""

    def __init__(self, title: str, lead: str, footer: str = "") -> None:
        self.title = title
        self.lead = lead
        self.footer = footer
        self.sections: list[Section] = []

    def section(self, title: str) -> Section:
        """A new section at the end."""
        self.sections.append(Section(title))
        return self.sections[-1]

    def html(self) -> str:
        sections = "\n".join(section.html() for section in self.sections)
        # the policy makes the browser itself hold the page to its promise to load nothing
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(self.title)}</title>
<style>{_STYLE}</style>
</head>
<body><main>
<header><h1>{escape(self.title)}</h1><p>{escape(self.lead)}</p></header>
{sections}
<footer>{escape(self.footer)}</footer>
</main></body>
</html>
"""

    def write(self, path: str | Path) -> None:
        """Write the page, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8", errors="backslashreplace")


def legible(name: str, most: int = 20) -> str:
    """A name for a figure: without what cannot be drawn, and not too long."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _row(cells: Sequence[object], first: str, other: str) -> str:
    tags = [first] + [other] * (len(cells) - 1)
    return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for tag, cell in zip(tags, cells, strict=True))}</tr>"
