"""Some examples of a run, and what the trainer computes of them, for an export to be compared with."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from trainer.export import formats

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Some examples as arrays by name, examples first; text as bytes objects.

    Attributes:
      raw: features as the source gives them.
      prepared: the model's inputs, which the run's own preparation has made of them.
      heads: what the run's model gives for these.
      losses: what each loss makes of that.
    """

    raw: Arrays
    prepared: Arrays
    heads: Arrays
    losses: Arrays

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(next(iter(self.prepared.values())))

    def of(self, inputs: str, outputs: str) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of these kinds, as `formats.Format` has them."""
        return (
            self.raw if inputs == formats.RAW else self.prepared,
            self.heads if outputs == formats.HEADS else self.losses,
        )
