"""Tables of the command line: framed and folded to the width of a terminal; plain, whole lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Mapping


class Table:
    """Columns named at the start, rows added, shown once."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []
        self._colours: list[Mapping[int, str]] = []

    def add(self, *cells: str, colours: Mapping[int, str] | None = None) -> None:
        """One row; `colours` by column number, for terminals. What could steer a terminal is shown as a question mark."""
        self._rows.append(tuple("".join(one if one.isprintable() else "?" for one in cell) for cell in cells))
        self._colours.append(colours or {})

    def show(self) -> None:
        """Print to standard output. A pipe gets every cell whole, columns set apart by two blanks or more."""
        if sys.stdout.isatty():
            self._framed()
            return
        lines = [self._columns, *self._rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self._columns))]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def _framed(self) -> None:
        from rich import table
        from rich.console import Console
        from rich.text import Text

        framed = table.Table()
        for column in self._columns:
            framed.add_column(column, overflow="fold")
        for row, colours in zip(self._rows, self._colours, strict=True):
            framed.add_row(*(Text(cell, colours.get(at, "")) for at, cell in enumerate(row)))
        Console().print(framed)
