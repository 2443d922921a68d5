"""The optimizers of `compile` and what each of them updates."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras

from trainer.combine.combination import Combination
from trainer.common.errors import ConfigError
from trainer.components import optimizers as optimizers_lib
from trainer.components.optimizers import GENERAL, SHARED, OptimizerGroup
from trainer.gradients.reach import Reach
from trainer.keras_model.arguments import Compiled


class _Share(NamedTuple):
    """Positions of variables in the reach, and the losses without which their optimizer is skipped (none: never)."""

    positions: tuple[int, ...]
    losses: tuple[int, ...]


def groups(
    compiled: Compiled, names: Sequence[str], reach: Reach, combination: Combination, model: keras.Model
) -> tuple[OptimizerGroup, ...]:
    """Builds every optimizer; call it in the strategy's scope.

    Applied jointly, an optimizer of a name updates the variables that its loss alone reaches, or the shared ones, and
    the general one all others, in every step. Applied per loss, every loss has one, of its name or a copy of the
    general one with the same learning rate.

    Args:
      compiled: the arguments of `compile`.
      names: the losses' names.
      reach: which of them reach which variable.
      combination: the combination that is applied.
      model: the model.

    Raises:
      ConfigError: an optimizer of no loss, or without a variable; none for some variables; weight decay of a variable
        with several optimizers; one that was built for other variables.
    """
    compiled.check_names(dict.fromkeys(names))
    if compiled.apply == "per_loss":
        return _per_loss(compiled, names, reach, combination)
    found = []
    for name, optimizer in compiled.optimizers.items():
        if name == SHARED:
            share = _Share(reach.shared, tuple(sorted({k for v in reach.shared for k in reach.losses[v]})))
        else:
            share = _Share(reach.task_specific(names.index(name)), (names.index(name),))
        found.append(_group(name, optimizer, share, reach, f"optimizers.{name}"))
    taken = {v for group in found for v in group.positions}
    rest = tuple(v for v in range(len(reach.variables)) if v not in taken)
    if rest:
        built_for = model.trainable_variables if compiled.one_optimizer else None
        found.append(_group(GENERAL, compiled.optimizer, _Share(rest, ()), reach, GENERAL, built_for))
    return tuple(found)


def _per_loss(
    compiled: Compiled, names: Sequence[str], reach: Reach, combination: Combination
) -> tuple[OptimizerGroup, ...]:
    if SHARED in compiled.optimizers:
        raise ConfigError(f"optimizers.{SHARED}", ConfigError.ABSENT, "owns nothing applied per loss; leave it out")
    found, general = [], compiled.optimizer
    for k, name in enumerate(names):
        field = f"optimizers.{name}" if name in compiled.optimizers else GENERAL
        optimizer = compiled.optimizers.get(name, general)
        if optimizer is general and any(group.optimizer is general for group in found):
            optimizer = optimizers_lib.copy_of(general)
        positions = tuple(v for v, by in enumerate(reach.losses) if k in combination.receivers(by))
        found.append(_group(name, optimizer, _Share(positions, (k,)), reach, field))
        optimizers_lib.check_decay(found[-1], reach, field)
    return tuple(found)


def _group(
    name: str,
    optimizer: keras.optimizers.Optimizer | None,
    share: _Share,
    reach: Reach,
    field: str,
    built_for: Iterable[keras.Variable] | None = None,
) -> OptimizerGroup:
    variables = tuple(reach.variables[v] for v in share.positions)
    if optimizer is None:
        raise ConfigError(field, None, f"must be an optimizer: {reach.names[share.positions[0]]} has no other")
    if not variables:
        what = "no variable is shared by several losses" if name == SHARED else "this loss has no variable of its own"
        raise ConfigError(field, optimizer.name, f"owns nothing: {what}; leave it out")
    if not optimizer.built:
        optimizer.build(list(variables if built_for is None else built_for))
    elif (unknown := optimizers_lib.first_unknown(optimizer, variables)) is not None:
        allowed = f"has no state for {unknown}: it was built for other variables; give compile a new one"
        raise ConfigError(field, optimizer.name, allowed)
    return OptimizerGroup(name, optimizer, share.positions, variables, share.losses)
