"""Pages, read as a browser would: their tables, pictures and whatever they would load."""

import re
import xml.etree.ElementTree as ET  # noqa: N817 (its usual name)
from html.parser import HTMLParser

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """What a page holds.

    Attributes:
      rows: of all its tables, each a list of (text, value): the number that the page says the cell has, or None.
      scripts: the number of its script elements.
      tags: the names of all elements.
      loaded: whatever its attributes would load, beside places of the page itself.
      text: all its words.
    """

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[tuple[str, float | None]]] = []
        self.scripts, self.text, self.loaded, self.tags = 0, "", [], set()
        self._cell: list | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.scripts += tag == "script"
        given = dict(attrs)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "data") and not value.startswith("#")]
        assert not any(name.startswith("on") for name in given), given
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._cell = ["", given.get("data-value")]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            text, value = self._cell
            self.rows[-1].append((text, None if value is None else float(value)))
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


def places(path: str) -> list[tuple[float, float]]:
    """The places that a path of straight lines goes through."""
    return [tuple(map(float, place.split(" "))) for place in re.split("[ML]", path)[1:]]
