"""Tables as HTML, which notebooks show in place of a `repr`."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a title; all text is escaped.

    Args:
        title: title above the table.
        head: names of the columns.
        rows: cells by row.
    """
    lines = [_row(head, "th"), *(_row(row, "td") for row in rows)]
    return f"<p><b>{escape(title)}</b></p>\n<table>\n" + "\n".join(lines) + "\n</table>"


def _row(cells: Sequence[object], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
