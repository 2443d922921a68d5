"""A picture of a few training examples: inputs after augmentation, each with its targets.

Examples with pictures, long vectors or targets of that kind become cards; rows of numbers and categories a table.
"""

from collections.abc import Sequence

from input_pipelines.feed.splits import Split
from input_pipelines.names import Names
from trainer.describe.picture_cards import MOST_CARDS, WORDS, cards
from trainer.describe.picture_table import MOST_EXAMPLES, MOST_ROWS, table
from trainer.describe.picture_tensors import Tensor, tensors


def draw(split: Split, names: Names, batch_size: int, seed: int, title: str) -> bytes:
    """The first training examples as a PNG.

    Args:
      split: the training split.
      names: of columns and classes.
      batch_size: of training.
      seed: of order and augmentation.
      title: what stands above.
    """
    size = min(batch_size, split.largest_batch)
    batches = split.training(batch_size=size, seed=seed, first_step=0, ends=[0, size])
    count = max(MOST_CARDS, MOST_EXAMPLES)
    batch = next(batches.unbatch().batch(min(count, len(split))).as_numpy_iterator())
    inputs, targets = tensors(batch, names)
    drawn = table if _fits_a_table(inputs, targets) else cards
    return drawn(inputs, targets, title)


def _fits_a_table(inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """True where all is short rows of numbers, or rows whose numbers have names."""
    flat = all(tensor.values.ndim <= 2 or tensor.size <= WORDS for tensor in (*inputs, *targets))
    return flat and all(tensor.size <= MOST_ROWS or tensor.columns for tensor in inputs)
