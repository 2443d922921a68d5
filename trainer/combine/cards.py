"""Makes the README beside this file from the registry: a table of the methods and a card for each."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from trainer.combine.entry import LooksAt, Method
from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError
from trainer.common.schema import Check

_HEAD = """\
# Combination methods

How the gradients of several losses become one update: methods by name (`--combine=NAME`), a table and a card for each.
A method is a pure function of a small problem, at most K losses and a K x K matrix, the same on every replica.

| file | what it holds |
| --- | --- |
| `registry.py` | the table of names: which entry, in which file, a name means |
| `methods/` | a file for each method or family: its functions and, below them, its entry with options and card |
| `entry.py` | what an entry is: `Method`, `LooksAt`, `Card` |
| `problem.py` | what a method may look at, and what it answers |
| `solvers/` | quadratic problems with K unknowns, the projection onto the simplex, Adam for K numbers |
| `combination.py` | a method with its options and what can be put around any: scaled losses, logarithms, smoothing |
| `mixing.py` | from weights to what is applied to each variable |
| `aggregation.py` | any method on a plain matrix: `trainer.combine.aggregate` |
| `cards.py` | makes this page: `python -m trainer.combine.cards > trainer/combine/README.md` |

## To add a method

1. Write `methods/NAME.py`, or add to a family's file: a function from a `Problem` to K weights and, below it, the entry
   `NAME = Method(function=..., looks_at=..., summary=..., card=Card(...))`. `methods/cagrad.py` is one with an option,
   `methods/famo.py` one that remembers something. TensorFlow comes as
   `from trainer.combine import lazy_tensorflow as tf`, so that `--help` and configuration errors need not load it.
2. Add the name to the table in `registry.py`. Its options, `--help` and what is saved follow from the entry.
3. Say in `tests/trainer/combine/test_aggregate.py` what its results are compared with. The properties tested there hold
   for every name.
4. Make this page anew, and add the method's row to the front page: `python -m tests.benchmarks.methods --combine=NAME`
   prints it.

## Notation

Loss k has the value Lₖ and, over all shared variables, the gradient gₖ, row k of J; G = J Jᵀ is the Gramian, ‖gₖ‖ the
roots of its diagonal. K losses; sums run over the active ones, which have a labelled example in the batch. A *pass* is
a backward pass. Options are keys below the method's name: `--config.combine.cagrad.c=0.5`.
"""
_LOOKS_AT = {
    LooksAt.NOTHING: "nothing",
    LooksAt.LOSSES: "losses",
    LooksAt.GRAMIAN: "Gramian",
    LooksAt.CROSS_GRAMIAN: "Gramian of two half batches",
    LooksAt.MOVING_GRAMIAN: "Gramian of moving averages",
    LooksAt.ELEMENTS: "elements",
}
# How many passes, and what there is to say of them.
_PASSES = {
    LooksAt.NOTHING: ("1", "one pass with `reduction=fused`, else K"),
    LooksAt.LOSSES: ("1", "one pass with `reduction=fused`, else K"),
    LooksAt.GRAMIAN: ("K", "K passes, fewer with `gradients=features` or `combine.update_every`"),
    LooksAt.CROSS_GRAMIAN: ("2 K", "2 K passes, K over each half of the batch, fewer with `combine.update_every`"),
    LooksAt.MOVING_GRAMIAN: ("K", "K passes, and averages as large as K gradients of the shared variables"),
    LooksAt.ELEMENTS: ("K", "K passes"),
}


def text() -> str:
    """The page in Markdown."""
    cards = "\n".join(_card(name, method) for name, method in METHODS.items())
    return "\n".join([_HEAD, "## Methods", "", *_table(), "", "## Cards", "", cards])


def _table() -> Iterator[str]:
    yield "| `--combine` | gradient of a shared variable | looks at | passes | file |"
    yield "| --- | --- | --- | --- | --- |"
    for name, method in METHODS.items():
        passes, _ = _passes(method)
        cells = (f"[`{name}`](#{name})", method.summary, _LOOKS_AT[method.looks_at], passes, _file(method))
        yield f"| {' | '.join(cells)} |"


def _card(name: str, method: Method) -> str:
    card = method.card
    paper = f"[{method.paper[0]}]({method.paper[1]})" if method.paper else "none in particular"
    options = [] if method.options is None else map(_option, dataclasses.fields(method.options))
    return f"""\
### {name}

{method.summary}

- **Formula**: {card.formula}
- **Paper**: {paper}
- **File**: {_file(method)}
- **Looks at**: {method.sees(_defaults(method))}
- **Cost**: {_passes(method)[1]}; {card.work}
- **Options**:{"".join(options) or " none"}
- **When to use**: {card.use}
- **When not**: {card.avoid}
- **Differences from the authors' code**: {card.differences}
"""


def _passes(method: Method) -> tuple[str, str]:
    number, told = _PASSES[method.looks_at]
    if method.per_loss:
        return "K", "K passes"
    if method.observe is not None:
        return f"{number}, and a forward pass", f"{told}, and the losses of the same batch once more after the update"
    return number, told


def _file(method: Method) -> str:
    path = f"methods/{method.function.__module__.rpartition('.')[2]}.py"
    return f"[`{path}`]({path})"


def _defaults(method: Method) -> dict[str, Any]:
    fields = () if method.options is None else dataclasses.fields(method.options)
    return {field.name: field.metadata["default"] for field in fields}


def _option(field: dataclasses.Field) -> str:
    accepted = _accepted(field.metadata["check"])
    return f"\n  - `{field.name}={field.metadata['default']}`: {field.metadata['meaning']} ({accepted})"


def _accepted(check: Check) -> str:
    """What a check accepts, as it says itself where it is given something else."""
    try:
        check(object(), "")
    except ConfigError as error:
        return error.allowed.rpartition("allowed: ")[2].removeprefix("must be ")
    raise ValueError("a check that accepts anything")


if __name__ == "__main__":
    print(text(), end="")
