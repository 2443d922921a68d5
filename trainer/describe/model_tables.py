"""Tables of a model: its layers as a tree, the losses that reach its parameters, and what updates them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from trainer.describe import tables
from trainer.describe.layer_shapes import Shape
from trainer.describe.layers import Part
from trainer.output import summary as summary_lib
from trainer.output.summary import ExperimentSummary


def layers(model: Part, losses: Sequence[str], batch: int) -> Table:
    """A row for every part of a model, drawn as a tree.

    Args:
      model: the tree of the model.
      losses: names of all losses.
      batch: examples of the batch for which shapes were taken.
    """
    table = tables.new("Layers", "part", "layer", "output", "parameters >", "reached by")
    table.columns[0].no_wrap = True
    for guide, part in _walked(model):
        if part.kind:
            shapes = ", ".join(_of_one(shape, batch) for shape in part.shapes)
        else:  # a variable's own
            shapes = ", ".join(map(summary_lib.shape, part.shapes))
        parameters = f"{part.parameters:,}" if part.parameters else ""
        cells = (part.kind, shapes, parameters, _reached(part, losses))
        table.add_row(f"[dim]{guide}[/]{escape(part.name)}", *map(escape, cells))
    return table


def groups(summary: ExperimentSummary) -> Table:
    """A row for all variables that the same losses reach."""
    table = tables.new("Reach", "parameters", "losses", "variables >", "parameters >")
    for group in summary.groups:
        kind = "shared" if group.is_shared else "task-specific"
        table.add_row(kind, escape(", ".join(group.losses)), f"{group.variables:,}", f"{group.parameters:,}")
    if summary.unreached.variables:
        table.add_row("trainable", "none", f"{summary.unreached.variables:,}", f"{summary.unreached.parameters:,}")
    return table


def optimizers(summary: ExperimentSummary) -> Table:
    """A row for every optimizer that updates something."""
    table = tables.new(
        "Optimizers", "of", "optimizer", "learning rate", "other arguments", "variables >", "parameters >"
    )
    for each in summary.optimizers:
        numbers = (f"{each.variables:,}", f"{each.parameters:,}")
        table.add_row(*map(escape, (each.name, each.kind, each.learning_rate, each.arguments)), *numbers)
    return table


def _walked(part: Part, guide: str = "", below: str = "") -> Iterator[tuple[str, Part]]:
    """Every part with the lines of the tree before it, in order."""
    yield guide, part
    for number, each in enumerate(part.parts, start=1):
        is_last = number == len(part.parts)
        yield from _walked(each, below + ("└── " if is_last else "├── "), below + ("    " if is_last else "│   "))


def _of_one(shape: Shape, batch: int) -> str:
    """The shape of one example of a batch, or that of the whole batch where its first axis is another one."""
    if shape[:1] in ((batch,), (None,)):
        return summary_lib.shape(shape[1:])
    return f"{summary_lib.shape(shape)} in all"


def _reached(part: Part, losses: Sequence[str]) -> str:
    """The losses that reach a part's parameters, in words; of more than two groups, how much is shared."""
    ordered = sorted(part.reached, key=lambda by: (-len(by), by))
    counts: Counter[str] = Counter()
    for by in ordered:
        reached = summary_lib.reached_by([losses[k] for k in by], losses)
        several = "shared" if len(by) > 1 else "task-specific" if by else reached
        counts[several if len(ordered) > 2 else reached] += part.reached[by]
    if part.untrained:
        counts["not trained"] = part.untrained
    return next(iter(counts)) if len(counts) == 1 else "; ".join(f"{kind} {count:,}" for kind, count in counts.items())
