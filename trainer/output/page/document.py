"""The page around everything: its head, sections, figures, tables and folded parts."""

import dataclasses
import importlib.resources
import re
from collections.abc import Iterable, Sequence

from trainer.output.page import heat_map, styles
from trainer.output.page.markup import Markup, element, joined
from trainer.output.page.picture import Picture

_CODE = re.compile("`([^`]*)`")
_FIRST = 12  # pictures of a section that are not folded


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: its title, an identifier of letters, and what it holds."""

    title: str
    identifier: str
    body: Markup


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: shown.
      value: the number that it is sorted by and that scripts read; None where it is text.
      note: a second, smaller line.
      is_best: it is emphasized.
    """

    text: str
    value: float | None = None
    note: str = ""
    is_best: bool = False


def page(title: str, kicker: str, headline: str, lead: Iterable[str], sections: Sequence[Section]) -> str:
    """Returns the whole file.

    Args:
      title: of the window.
      kicker: a line above the headline.
      headline: the page's result in words.
      lead: paragraphs below it.
      sections: the parts in their order.
    """
    links = (element("a", each.title, href=f"#{each.identifier}") for each in sections)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", _file("page.css")),
        element("style", _file("picture.css"), id="pictures"),
    )
    top = element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", headline),
        *(element("p", each, class_="lead") for each in lead),
        element("nav", *links, aria_label="Sections"),
    )
    parts = (element("section", element("h2", each.title), each.body, id=each.identifier) for each in sections)
    body = element("body", top, element("main", *parts), _hatching(), element("script", _file("page.js")))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def figures(pictures: Sequence[Picture], *, folds: bool = True) -> Markup:
    """Returns pictures side by side as the page has room; where it `folds`, those after the first ones are folded."""
    shown = [_figure(each) for each in pictures]
    if len(shown) <= _FIRST or not folds:
        return element("div", *shown, class_="figures")
    first, others = (element("div", *part, class_="figures") for part in (shown[:_FIRST], shown[_FIRST:]))
    return joined(first, folded(f"{len(shown) - _FIRST} more", others))


def _figure(picture: Picture) -> Markup:
    parts = [picture.svg]
    if picture.table is not None:
        headings, *rows = picture.table
        parts.append(folded("Numbers", table(headings, [[Cell(text) for text in row] for row in rows])))
    return element("figure", *parts)


def folded(title: str, *parts: str) -> Markup:
    """Returns parts that are shown once their title is chosen."""
    return element("details", element("summary", title), *parts)


def paragraph(*texts: str) -> Markup:
    """Returns a paragraph."""
    return element("p", *texts)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, label: str = "", is_sortable: bool = False
) -> Markup:
    """Returns a table whose first column names its rows; it scrolls by itself where the page is narrow."""
    head = (
        element("th", element("button", each, type="button") if is_sortable else each, scope="col") for each in headings
    )
    body = (element("tr", *(_cell("td" if index else "th", cell) for index, cell in enumerate(row))) for row in rows)
    inner = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="sortable" if is_sortable else None,
    )
    named = {"role": "region", "aria_label": label} if label else {}
    return element("div", inner, class_="scrolls", tabindex="0", **named)


def _cell(name: str, cell: Cell) -> Markup:
    note = (element("small", cell.note),) if cell.note else ()
    shown = element("b", cell.text) if cell.is_best else cell.text
    value = None if cell.value is None else repr(float(cell.value))
    return element(name, shown, *note, scope="row" if name == "th" else None, data_value=value)


def legend(labels: Sequence[tuple[str, int]]) -> Markup:
    """Returns the names of the lines (label, number of its style), each of which can be chosen to stand out."""
    return element(
        "div", *(_key(label, style) for label, style in labels), class_="legend", role="group", aria_label="Lines"
    )


def _key(label: str, style: int) -> Markup:
    stroke = element("path", d="M1 7H31", class_="line", stroke_dasharray=styles.dash(style))
    drawn = element("g", stroke, styles.marks(style, [(16, 7)]), class_=f"series {styles.colour(style)}")
    swatch = element("svg", drawn, viewBox="0 0 32 14", width="32", height="14", aria_hidden="true")
    return element("button", swatch, label, type="button", data_series=label, aria_pressed="false")


def notes(texts: Iterable[str]) -> Markup:
    """Returns sentences as a list; what stands in backticks is code."""
    items = [
        element("li", *(element("code", part) if index % 2 else part for index, part in enumerate(_CODE.split(text))))
        for text in texts
    ]
    return element("ul", *items, class_="notes") if items else Markup()


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Returns names with their values, side by side as the page has room."""
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs), class_="facts"
    )


def code(text: str) -> Markup:
    """Returns text as it is, in a fixed width."""
    return element("pre", element("code", text), tabindex="0")


def _file(name: str) -> Markup:
    return Markup(importlib.resources.files("trainer.output.page").joinpath(name).read_text(encoding="utf-8"))


def _hatching() -> Markup:
    """The fillings of cells below 0, which all pictures share; a download takes them along."""
    fills = (
        element(
            "pattern",
            element("rect", width=4, height=4, class_="under"),
            element("path", d="M0 0V4", class_="hatch"),
            id=f"h{index}",
            width=4,
            height=4,
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        )
        for index in range(heat_map.EDGES.index(0.0) + 1)
    )
    return element("svg", element("defs", *fills), id="patterns", width=0, height=0, aria_hidden="true")
