"""Elements of HTML and SVG as text, in which everything that is not markup is escaped."""

import html
import re

_EMPTY = frozenset({"circle", "line", "meta", "path", "rect"})
# Characters that XML does not have, and halves of a character that UTF-8 does not have.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already; all other text is escaped where it becomes part of an element."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """Returns an element.

    Args:
      name: of the element.
      children: what it holds, one after another; text that is no `Markup` is escaped.
      attributes: by name; `_` stands for `-`, and at the end for nothing (`class_`). True is an attribute without a
        value; None and False leave it out.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Returns children one after another; text that is no `Markup` is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escaped(child) for child in children))


def escaped(text: str) -> Markup:
    """Returns any text as markup that shows it."""
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", text)))


def shortened(text: str, most: int) -> str:
    """Returns the text, or its beginning and its end where it has more than `most` characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
