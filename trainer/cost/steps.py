"""From a workload and its passes to the work of one replica in a step: operations, bytes reduced. No TensorFlow.

A step of K passes takes the forward pass and one backward pass for every loss through all that the loss reaches, or two
where it looks at two halves of the batch, each as long as one of the whole; a fused step one backward pass of the
losses' sum, or two through the heads where task-specific variables have coefficients of their own; a step at the
features K passes through the heads and one through the trunk. Every replica then combines and applies the same reduced
gradients. A method that needs the losses after the update takes one more forward pass.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from trainer.config.plan import Way
from trainer.cost.passes import Passes
from trainer.cost.workload import Operations, Variable, Workload

_FLOAT64 = 8  # bytes
# An optimizer like Adam, in operations and in numbers read or written, for every number it updates.
_UPDATE_OPERATIONS, _UPDATE_TRANSFERS = 10, 30
_CLIP_OPERATIONS = 3
# Numbers read or written for every number that is reduced: into the pack and out of it, and whether it is finite.
_REDUCE_TRANSFERS = 5
# The same for adding it to a mixture; for the Gramian (a stack, a copy in float64, the product); for adding it to
# others (of earlier micro-batches, of the other half of the batch); for combining it with others element by element
# instead of mixing it; and for its moving average, with the copy that the average becomes.
_MIX_TRANSFERS, _GRAMIAN_TRANSFERS, _ADD_TRANSFERS, _ELEMENTWISE_TRANSFERS, _MOVING_TRANSFERS = 5, 7, 3, 16, 9
_ELEMENTWISE_OPERATIONS, _MOVING_OPERATIONS = 6, 3


@dataclasses.dataclass(frozen=True)
class StepCost:
    """Operations, bytes and collectives of one step on one replica.

    Attributes:
      forward: operations.
      backward: operations, recomputation included.
      combine: operations that add up, average, mix and clip gradients.
      float64: operations of the Gramian, in float64.
      update: operations of the optimizers.
      alone: bytes of each collective of losses, which overlaps with nothing: before the backward pass, or after the
        update.
      statistics: bytes of each collective within the model's forward and backward passes, such as those of synchronized
        batch statistics, which overlap with nothing either.
      late: bytes of each collective of gradients.
      held: bytes of all gradients and of their moving averages, which are there at once.
      traffic: bytes read and written to reduce, combine and apply gradients.
      packs: how many collectives the gradients travel in.
      overlap: the part of the backward pass beside which gradients may travel.
      gathered: bytes of one replica's rows in each collective that gives every replica those of all; what a replica
        gives to be summed is as many times as large as there are replicas, and overlaps with nothing.
    """

    forward: float
    backward: float
    combine: float
    float64: float
    update: float
    alone: tuple[int, ...]
    statistics: tuple[int, ...]
    late: tuple[int, ...]
    held: int
    traffic: float
    packs: int
    overlap: float
    gathered: tuple[int, ...] = ()

    @property
    def operations(self) -> float:
        """All of them."""
        return self.forward + self.backward + self.combine + self.float64 + self.update

    @property
    def reduced(self) -> int:
        """Bytes that one replica gives to be summed, without gathered rows."""
        return sum(self.alone) + sum(self.statistics) + sum(self.late)

    def reduced_on(self, replicas: int) -> int:
        """Bytes that one of several replicas gives to be summed."""
        return self.reduced + replicas * sum(self.gathered)

    @property
    def collectives(self) -> int:
        """The number of sums over all replicas."""
        return len(self.alone) + len(self.statistics) + len(self.gathered) + self.packs


def steps(workload: Workload, passes: Passes) -> tuple[tuple[float, StepCost], ...]:
    """The kinds of steps there are, each with its share of all steps."""
    full = _step(workload, passes)
    if passes.full_every == 1:
        return ((1.0, full),)
    share = 1 / passes.full_every
    return ((share, full), (1 - share, _step(workload, passes.between)))


def average(kinds: Iterable[tuple[float, StepCost]], function: Callable[[StepCost], float]) -> float:
    """The mean of something over all steps, given the kinds of steps with their shares."""
    return sum(share * function(cost) for share, cost in kinds)


def _step(workload: Workload, passes: Passes) -> StepCost:
    together = [range(workload.losses)]
    one_by_one = [[k] for k in range(workload.losses)] * (2 if passes.halves else 1)
    trunk_passes = one_by_one if passes.way is Way.PER_LOSS else together
    head_passes = together if passes.way is Way.FUSED else one_by_one
    backward = _backward(workload.trunk, trunk_passes) + _backward(workload.heads, head_passes)
    if _is_apart(workload, passes):
        backward += sum(operations.count * operations.twice for operations in workload.operations)
    if passes.recompute:
        backward += len(trunk_passes) * sum(operations.count for operations in workload.trunk)
    gradients = [_gradients(variable, passes, workload.losses) for variable in workload.variables]
    if passes.way is Way.FEATURES:
        gradients.append(_at_the_features(workload))
    late = _late(workload, passes)
    return StepCost(
        forward=workload.forward * (2 if passes.observes else 1),
        backward=backward,
        combine=sum(own.combine for own in gradients),
        float64=sum(own.float64 for own in gradients),
        update=sum(own.update for own in gradients),
        alone=_first(workload, passes) + _after(workload, passes),
        statistics=tuple(_statistics(workload, passes, trunk_passes, head_passes)),
        late=tuple(map(sum, late)),
        held=sum(own.held for own in gradients),
        traffic=sum(own.traffic for own in gradients),
        packs=sum(_packs(sizes, passes.bytes_per_pack) for sizes in late),
        overlap=1 / passes.micro_batches,
        gathered=_gathered(workload) * (2 if passes.observes else 1),
    )


def _is_apart(workload: Workload, passes: Passes) -> bool:
    """True where a fused step goes through the heads twice, for shared variables and for task-specific ones."""
    return passes.way is Way.FUSED and passes.heads_apart and bool(workload.shared)


def _statistics(
    workload: Workload, passes: Passes, trunk_passes: Sequence[Iterable[int]], head_passes: Sequence[Iterable[int]]
) -> Iterator[int]:
    """Bytes of each collective within the model: in the forward pass, and in the backward passes through it."""
    for each in workload.statistics:
        of_trunk = len(each.feeds) == workload.losses
        times = 2 if passes.observes else 1
        times += sum(bool(each.backward(losses)) for losses in (trunk_passes if of_trunk else head_passes))
        if _is_apart(workload, passes):
            times += each.twice
        if passes.recompute and of_trunk:
            times += len(trunk_passes)
        yield from [int(each.count)] * (times * passes.micro_batches)


def _gathered(workload: Workload) -> tuple[int, ...]:
    """Bytes of one replica's rows in each collective of a forward pass: one for each dtype."""
    sizes: dict[str, int] = {}
    for each in workload.gathered:
        sizes[each.dtype] = sizes.get(each.dtype, 0) + each.size
    return tuple(sizes.values())


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """The work on the gradients of one tensor: operations (as in `StepCost`), bytes held, bytes read and written."""

    combine: float
    float64: float
    update: float
    held: int
    traffic: float


def _gradients(variable: Variable, passes: Passes, losses: int) -> _Gradients:
    rows, applied = _rows(variable, passes), _receivers(variable, passes, losses)
    k = rows // 2 if passes.halves and rows > 1 else rows  # that are mixed
    reduced, mixed, held = rows * variable.size, k * variable.size, rows * variable.size
    transfers = _REDUCE_TRANSFERS * reduced + _UPDATE_TRANSFERS * applied * variable.size
    combine, float64 = 0.0, 0.0
    added = passes.micro_batches * ((passes.micro_batches > 1) + (passes.halves and rows == 1))
    combine += added * reduced
    transfers += added * _ADD_TRANSFERS * reduced
    if passes.moving and k > 1:
        combine += _MOVING_OPERATIONS * mixed
        transfers += _MOVING_TRANSFERS * mixed
        held += mixed
    if passes.gramian and k > 1:
        float64 = 2 * rows * reduced
        transfers += _GRAMIAN_TRANSFERS * reduced
    if passes.elementwise and k > 1:
        combine += _ELEMENTWISE_OPERATIONS * mixed
        transfers += _ELEMENTWISE_TRANSFERS * mixed
    elif passes.receivers == "own":
        combine += mixed
        transfers += _MIX_TRANSFERS * mixed
    else:  # a mixture of k gradients takes k products and k - 1 sums
        combine += applied * (2 * k - 1) * variable.size
        transfers += applied * _MIX_TRANSFERS * mixed
    if passes.clip:
        combine += _CLIP_OPERATIONS * applied * variable.size
    return _Gradients(
        combine=combine,
        float64=float64,
        update=_UPDATE_OPERATIONS * applied * variable.size,
        held=held * variable.width,
        traffic=transfers * variable.width,
    )


def _at_the_features(workload: Workload) -> _Gradients:
    """The Gramian of the gradients at the features, and their mixture for the trunk."""
    numbers = workload.losses * workload.features
    return _Gradients(
        combine=2 * numbers,
        float64=2 * workload.losses * numbers,
        update=0,
        held=workload.width * numbers,
        traffic=workload.width * (_GRAMIAN_TRANSFERS + _MIX_TRANSFERS) * numbers,
    )


def _backward(operations: Iterable[Operations], summed: Iterable[Iterable[int]]) -> float:
    """Operations of one backward pass for the sum of each of these groups of losses."""
    groups = [frozenset(losses) for losses in summed]
    return sum(each.backward(losses) for each in operations for losses in groups)


def _rows(variable: Variable, passes: Passes) -> int:
    """Counts a variable's reduced gradients; task-specific ones of two halves of a batch are added up first."""
    if passes.way is not Way.PER_LOSS or len(variable.losses) == 1:
        return 1
    return len(variable.losses) * (2 if passes.halves else 1)


def _receivers(variable: Variable, passes: Passes, losses: int) -> int:
    """Counts a variable's applied gradients."""
    if passes.receivers == "one" or len(variable.losses) == 1:
        return 1
    return len(variable.losses) if passes.receivers == "own" else losses


def _first(workload: Workload, passes: Passes) -> tuple[int, ...]:
    """Bytes of the collective for which the backward pass must wait: Σ w·ℓ and the like of every loss."""
    sums = passes.numbers * workload.losses
    if passes.way is Way.FEATURES:
        return (_FLOAT64 * (workload.losses**2 + sums),)  # with the Gramian
    if passes.way is Way.FUSED and (passes.loss_valued or passes.missing):
        return (workload.width * sums,)
    return ()


def _after(workload: Workload, passes: Passes) -> tuple[int, ...]:
    """Bytes of the collective of those sums after the update."""
    return (workload.width * passes.numbers * workload.losses,) if passes.observes else ()


def _late(workload: Workload, passes: Passes) -> list[list[int]]:
    """Bytes of all that is reduced after the backward pass, apart for every width, in the order in which it travels.

    Those sums, where they have not travelled yet; then every variable's first gradient, the last variable's first; then
    every variable's second one.
    """
    groups: dict[str | int, list[int]] = {}
    parts = 2 if passes.halves else 1
    if not _first(workload, passes):
        groups[workload.width] = [workload.width * workload.losses * parts] * passes.numbers
    for row in range(workload.losses * parts):
        for variable in reversed(workload.variables):
            if row < _rows(variable, passes):
                # Reduced in another dtype, gradients travel apart from the sums, which keep their own.
                own = passes.reduce_width is None
                width = variable.width if own else passes.reduce_width
                groups.setdefault(width if own else "reduced", []).append(width * variable.size)
    return list(groups.values())


def _packs(sizes: Iterable[int], limit: int) -> int:
    """Counts TensorFlow's packs of tensors: one is full once it holds more than `limit` bytes (0: never)."""
    packs, held = 0, 0
    for size in sizes:
        packs += held == 0
        held = 0 if 0 < limit < held + size else held + size
    return packs
