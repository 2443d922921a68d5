"""Pages, read as a browser would: their tables, pictures and whatever they would load."""

import itertools
import re
import xml.etree.ElementTree as ET  # noqa: N817 (its usual name)
from html.parser import HTMLParser

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """The parts of a page.

    Attributes:
      tables: all tables, each a list of rows of (text, value): the number that the page says a cell has, or None. What
        stands small below a cell's text follows it on a line of its own.
      scripts: the number of its script elements.
      tags: the names of all elements.
      loaded: whatever its attributes would load, beside places of the page itself.
      text: all its words.
    """

    def __init__(self, html: str):
        super().__init__()
        self.tables: list[list[list[tuple[str, float | None]]]] = []
        self.scripts, self.text, self.loaded, self.tags = 0, "", [], set()
        self._cell: list | None = None
        self.feed(html)

    def named_rows(self) -> dict[str, list[tuple[str, float | None]]]:
        """The rows of all tables by their first cell's text; of those with the same text the first one."""
        found: dict[str, list[tuple[str, float | None]]] = {}
        for row in (row for table in self.tables for row in table):
            found.setdefault(row[0][0].partition("\n")[0], row)
        return found

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.scripts += tag == "script"
        given = dict(attrs)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "data") and not value.startswith("#")]
        assert not any(name.startswith("on") for name in given), given
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "small":
            self._cell[0] += "\n"
        elif tag in ("td", "th"):
            self._cell = ["", given.get("data-value")]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            text, value = self._cell
            self.tables[-1][-1].append((text, None if value is None else float(value)))
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell[0] += data


def pictures(html: str) -> list[ET.Element]:
    """The pictures of a page that have a title, each of which is a whole file of its own."""
    found = (ET.fromstring(text) for text in re.findall(r"<svg xmlns.*?</svg>", html, re.DOTALL))
    return [each for each in found if each.find(f"{SVG}title") is not None]


def picture(html: str, title: str) -> ET.Element:
    """The first picture of a title."""
    return next(each for each in pictures(html) if each.find(f"{SVG}title").text == title)


def is_rounded(text: str, value: float) -> bool:
    """True where a text is the number, to the digits that it has."""
    decimals = len(text.partition(".")[2])
    return abs(float(text.replace(",", "").replace("\N{MINUS SIGN}", "-")) - value) <= 0.500001 * 10**-decimals


def places(path: str) -> list[tuple[float, float]]:
    """The places that a path of straight lines goes through, which are differences but for the first one."""
    numbers = [float(number) for number in re.split("[Ml ]", path)[1:]]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return list(itertools.accumulate(pairs, lambda place, move: (place[0] + move[0], place[1] + move[1])))
