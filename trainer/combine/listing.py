"""Text for a terminal about the combination methods, from the registry: `--help=methods`. Needs no TensorFlow."""

import dataclasses
import textwrap

from trainer.combine.entry import Method
from trainer.combine.registry import METHODS
from trainer.common import schema

_WIDTH = 88
_HEAD = """\
The combination methods, chosen by --combine=NAME or combine.name: how the gradients of the losses become one update.
An option is a key below the method's name: --config.combine.cagrad.c=0.5. A function of your own is chosen by its
import path, package.module:function, with options below combine.options. trainer/combine/README.md has formulas,
papers, costs, and when to use which."""


def text() -> str:
    """Every method with its summary, what it looks at, and its options with their defaults; at most 88 columns."""
    blocks = [textwrap.fill(" ".join(_HEAD.split()), _WIDTH), *(_entry(*each) for each in METHODS.items())]
    return "\n\n".join(blocks)


def _entry(name: str, method: Method) -> str:
    lines = [name, *_indented(method.summary, 2), *_indented(f"looks at {method.looks_at.value}", 2)]
    for field in () if method.options is None else dataclasses.fields(method.options):
        accepted = schema.accepted(field.metadata["check"])
        default, meaning = field.metadata["default"], field.metadata["meaning"]
        lines += _indented(f"{name}.{field.name} = {default!r}: {meaning} ({accepted})", 4)
    return "\n".join(lines)


def _indented(line: str, columns: int) -> list[str]:
    return textwrap.wrap(line, _WIDTH, initial_indent=" " * columns, subsequent_indent=" " * (columns + 2))
