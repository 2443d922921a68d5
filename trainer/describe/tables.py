"""Tables and numbers as they are shown."""

from rich import box
from rich.markup import escape
from rich.table import Table

NOTHING = "–"


def new(title: str, *headings: str) -> Table:
    """An empty table; columns whose heading ends in `>` hold numbers."""
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(escape(heading.removesuffix(" >")), justify="right" if heading.endswith(" >") else "left")
    return table


def number(value: float | None) -> str:
    """A number in few digits; a dash where there is none."""
    if value is None:
        return NOTHING
    if abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"
