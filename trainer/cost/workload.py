"""The workload of a step: a model's operations and variables, with the losses that use each. Needs no TensorFlow.

An operation is one floating-point addition or multiplication, so a multiply-add is two.
"""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations of the forward pass that lie between the same variables and losses.

    Attributes:
      count: how many there are, for one replica's part of the batch.
      feeds: the losses (indices) whose value depends on the results.
      gradients: for each of the inputs whose gradient costs as much again, the losses that have one.
      twice: how many of these inputs are made of shared variables and of task-specific ones.
    """

    count: float
    feeds: frozenset[int]
    gradients: tuple[frozenset[int], ...]
    twice: int = 0

    def backward(self, losses: Iterable[int]) -> float:
        """Operations of one backward pass of the sum of some losses."""
        wanted = frozenset(losses)
        return self.count * sum(bool(wanted & own) for own in self.gradients)


@dataclasses.dataclass(frozen=True)
class Variable:
    """One trainable variable.

    Attributes:
      size: how many numbers it holds.
      width: bytes of each.
      losses: the losses (indices) that reach it.
    """

    size: int
    width: int
    losses: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A tensor whose rows every replica has of all replicas, for losses that compare the examples of a global batch.

    Attributes:
      feeds: the losses (indices) that read it.
      dtype: name of the dtype in which it travels.
      size: bytes of one replica's rows.
    """

    feeds: frozenset[int]
    dtype: str
    size: int


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model with its losses, at a number of examples per replica.

    Attributes:
      examples: on one replica.
      losses: how many there are, K.
      operations: of the forward pass.
      variables: that a loss reaches.
      features: numbers that pass from the trunk to the heads, of all examples together.
      width: bytes of a loss.
      statistics: sums over all replicas within the forward pass, as of synchronized batch statistics, one by one;
        `count` is bytes, and `gradients` says which backward passes sum as many once more.
      gathered: what losses over the global batch read. Their operations are counted of one replica's examples.
    """

    examples: int
    losses: int
    operations: tuple[Operations, ...]
    variables: tuple[Variable, ...]
    features: int
    width: int
    statistics: tuple[Operations, ...] = ()
    gathered: tuple[Gathered, ...] = ()

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        return sum(operations.count for operations in self.operations)

    @property
    def trunk(self) -> tuple[Operations, ...]:
        """The operations that all losses depend on."""
        return tuple(operations for operations in self.operations if len(operations.feeds) == self.losses)

    @property
    def heads(self) -> tuple[Operations, ...]:
        """The operations that only some of the losses depend on."""
        return tuple(operations for operations in self.operations if len(operations.feeds) < self.losses)

    @property
    def size(self) -> int:
        """Numbers in all variables."""
        return sum(variable.size for variable in self.variables)

    @property
    def shared(self) -> tuple[Variable, ...]:
        """The variables that two losses or more reach."""
        return tuple(variable for variable in self.variables if len(variable.losses) > 1)

    def first(self, count: int) -> "Workload":
        """The same with the first `count` losses, without what only the others need."""
        kept = frozenset(range(count))

        def of_kept(operations: Iterable[Operations]) -> tuple[Operations, ...]:
            return tuple(
                dataclasses.replace(
                    each, feeds=each.feeds & kept, gradients=tuple(own & kept for own in each.gradients if own & kept)
                )
                for each in operations
                if each.feeds & kept
            )

        variables = (
            dataclasses.replace(variable, losses=tuple(k for k in variable.losses if k < count))
            for variable in self.variables
        )
        return dataclasses.replace(
            self,
            losses=count,
            operations=of_kept(self.operations),
            statistics=of_kept(self.statistics),
            gathered=tuple(
                dataclasses.replace(each, feeds=each.feeds & kept) for each in self.gathered if each.feeds & kept
            ),
            variables=tuple(variable for variable in variables if variable.losses),
        )
