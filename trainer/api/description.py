"""The public function that describes an experiment before it is trained."""

import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.api import configuration, process
from trainer.common import import_paths
from trainer.common import trust as trust_lib
from trainer.describe import description

_WIDTH = 120  # characters of a line of text


@dataclasses.dataclass(frozen=True, repr=False)
class Description:
    """Everything that `python -m trainer.describe` says of an experiment; it prints as the command does.

    Attributes:
      summary: lines that a run prints at its start too.
      data: tables of the data: splits, inputs, targets, the balance of classes, what was learned.
      data_notes: lines about them.
      model: tables of the model: layers with shapes and which losses reach them, optimizers.
      step_notes: lines about a step and its cost.
      picture: some training examples as the bytes of a PNG; None where none was asked for.
    """

    summary: list[str]
    data: list[Table]
    data_notes: list[str]
    model: list[Table]
    step_notes: list[str]
    picture: bytes | None

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, highlight=False)
        description.show(description.Description(*(getattr(self, name) for name in self.__dataclass_fields__)), console)
        return console.file.getvalue()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _repr_png_(self) -> bytes | None:
        return self.picture


def describe(
    config: Any, *, combine: Any = None, picture: bool = False, trust: Sequence[str] = (), **changes: Any
) -> Description:
    """Builds an experiment on the CPU and describes its data, its model and what a step does; nothing is trained.

    Args:
      config: the path of a Python file, a ConfigDict or a dictionary, as for `train`.
      combine: the combination method; replaces `combine.name`.
      picture: whether to draw some training examples.
      trust: packages whose code a folder of TFDS may name.
      changes: further settings, by their keys.

    Raises:
      ConfigError: anything that a run would refuse before its first step, or an example that cannot be read.
    """
    with process.preserved():
        given = configuration.read(config, combine, changes)
        trusted, title = trust_lib.in_packages(trust), "Training examples" if picture else None
        with import_paths.objects(given.objects):
            quiet = Console(quiet=True)
            found = description.describe(given.config, quiet, picture_title=title, trust=trusted)
    return Description(*found)
