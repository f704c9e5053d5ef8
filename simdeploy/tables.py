"""Tables of texts: for terminals of 80 columns, for notebooks (HTML) and for reports (Markdown)."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table of texts."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    left: tuple[int, ...] = (0,)
    """Columns that hold words; the others hold numbers and are aligned to the right."""


def listed(names: Sequence[str], word: str = "and", most: int = 6) -> str:
    """*names* as a sentence has them: 'a, b and c'; beyond *most*: 'a, b, c and 4 more'."""
    shown = [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    last = word if len(names) <= most else "and"
    return f" {last} ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def text(table: Table, width: int = 80) -> str:
    """*table* for a terminal of *width* columns, without trailing blanks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    cells = [[len(part) for part in column.split("\n")] for column in table.header]
    natural = [max(*widths, *(len(row[i]) for row in table.rows)) if table.rows else max(widths) for i, widths in enumerate(cells)]
    padding = 1 if sum(natural) + 2 * len(natural) <= width else 0
    rendered = RichTable(box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), show_edge=False)
    for i, heading in enumerate(table.header):
        words = i in table.left
        rendered.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in table.rows:
        rendered.add_row(*map(Text, row))
    console = Console(highlight=False, width=width, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        console.print(Text(table.title), rendered, Text(table.note), sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"


def markdown(table: Table) -> str:
    """*table* as Markdown with its note below."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    ruler = "|" + "|".join(" --- " if i in table.left else " ---: " for i in range(len(table.header))) + "|"
    lines = [line(table.header), ruler, *map(line, table.rows)]
    note = ["- " + said.removeprefix("* ").replace("recommended  ", "\\* recommended,") for said in table.note.splitlines()]
    return "\n".join([*lines, "", *note, ""] if note else [*lines, ""])


def mime_bundle(*parts: Table | str) -> dict[str, str]:
    """Tables and sentences as a notebook shows them: HTML, and as text of 80 columns where there is no HTML."""
    pages = [html_table(part) if isinstance(part, Table) else f"<p>{html.escape(part)}</p>" for part in parts]
    texts = [text(part) if isinstance(part, Table) else textwrap.fill(part, 80) for part in parts]
    return {"text/html": "".join(pages), "text/plain": "\n".join(texts)}


def html_table(table: Table) -> str:
    """*table* as HTML, every text escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag} style='text-align:{'left' if i in table.left else 'right'}'>{html.escape(c)}</{tag}>" for i, c in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(row(r, "td") for r in table.rows)
    note = f"<p><small>{'<br>'.join(map(html.escape, table.note.splitlines()))}</small></p>" if table.note else ""
    return (
        f"<table><caption>{html.escape(table.title)}</caption><thead>{row(table.header, 'th')}</thead><tbody>{body}</tbody></table>{note}"
    )
