"""The settings on which the plan of a step depends, whoever gives them: a configuration, or Keras' `compile`."""

import dataclasses
from collections.abc import Mapping

from trainer.combine import registry
from trainer.combine.registry import Method
from trainer.common.errors import ConfigError
from trainer.config.settings import OFF, Config, LossConfig, method_options


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """The settings on which the plan of a step depends, as a configuration has them unless it says otherwise.

    Attributes:
      name: the combination's name.
      method: what its name and options select.
      apply: "joint" or "per_loss".
      losses: loss name → its settings, of which `weight`, `over` and `variables` are read.
      reduction: how gradients are computed and summed.
      batch_size: examples of a global batch.
      per_variable: whether the method is asked for coefficients of their own for every variable.
      log_losses: of the combination.
      smoothing: of the combination.
      update_every: of the combination.
      micro_batches: parts of a batch.
      probe_every: how often a fused run measures.
      compile: what is compiled with XLA.
      measures: whether gradient norms and cosines are wanted; where not, a fused run has no steps to measure them.
    """

    name: str
    method: Method
    apply: str
    losses: Mapping[str, LossConfig]
    reduction: str
    batch_size: int
    per_variable: bool = False
    log_losses: bool = False
    smoothing: float = 0.0
    update_every: int = 1
    micro_batches: int = 1
    probe_every: int | str | None = None
    compile: str = OFF
    measures: bool = True


def of(given: Config) -> StepSettings:
    """The settings of a configuration that says how its combination is applied.

    A method of the user's own is imported.

    Raises:
      ConfigError: that cannot be a method, or a method uses the losses' weights already.
    """
    combine = given.combine
    options = method_options(combine)
    method, _ = registry.resolve(combine.name, options)
    if method.weighted and combine.use_weights:
        allowed = f"{combine.name!r} uses the losses' weights already; leave it False"
        raise ConfigError("combine.use_weights", True, allowed)
    return StepSettings(
        name=combine.name,
        method=method,
        apply=combine.apply,
        losses=given.losses,
        reduction=given.reduction,
        batch_size=given.batch_size,
        per_variable=options.get("per_variable", False),
        log_losses=combine.log_losses,
        smoothing=combine.smoothing,
        update_every=combine.update_every,
        micro_batches=given.micro_batches,
        probe_every=given.probe_every,
        compile=given.compile,
    )
