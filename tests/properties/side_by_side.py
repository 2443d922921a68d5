"""The steps of many combination methods beside one another in one graph, at the variables of one training.

Tracing forward and backward passes on several replicas takes far longer than running them, and is the same for all
methods. Here they are traced once; every method then combines the gradients of each step, with a state of its own.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import tensorflow as tf

from tests import problems
from trainer.config import plan as plan_lib
from trainer.config.settings import Config
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import gramian, statistics
from trainer.run import build_step, experiment, network, optimization
from trainer.run.experiment import Experiment
from trainer.step import absence, replicas
from trainer.step.objectives import Objectives
from trainer.step.per_loss import PerLoss
from trainer.step.step import Step
from trainer.step.values import Applied, State, StepSummary


class Side(NamedTuple):
    """The result of one method in one step.

    Attributes:
      gradients: what every replica would apply, one list of them for each replica.
      state: what the method's next step would read.
      summary: of the step.
    """

    gradients: list[list[Any]]
    state: State
    summary: StepSummary


class SideBySide:
    """A training by one method, in each step of which others say what they would apply.

    Args:
      configs: of the methods, first the one that trains; alike in all but `combine` and `clip_norm`, with a pass per
        loss, and without moving averages.
      count: number of replicas.
    """

    def __init__(self, configs: Sequence[Config], count: int):
        self.strategy = problems.strategy(count)
        self.built = experiment.build(configs[0], self.strategy)
        self.steps = [self.built.step, *(_step(config, self.built) for config in configs[1:])]
        assert all(isinstance(step.computation, PerLoss) for step in self.steps)
        assert all(step.updates.gradient_averages is None for step in self.steps)
        self._trace = tf.function(self._all_take_a_step, autograph=False)

    def run(self, first: int, count: int) -> Iterator[list[Side]]:
        """Takes steps, all methods from their initial states; gives what every method says in each."""
        iterator = iter(self.built.batches(first))
        states = [step.initial_state() for step in self.steps]
        for number in range(first, first + count):
            applied, summaries, states = self._trace(iterator, tf.constant(number, tf.int64), states)
            local = [self._local(each.gradients) for each in applied]
            yield [Side(*of_one) for of_one in zip(local, states, summaries, strict=True)]

    def _local(self, values: Any) -> list[list[Any]]:
        each = [self.strategy.experimental_local_results(value) for value in tf.nest.flatten(values)]
        return [list(of_replica) for of_replica in zip(*each, strict=True)]

    def _all_take_a_step(
        self, iterator: Any, step: tf.Tensor, states: list[State]
    ) -> tuple[list[Applied], list[StepSummary], list[State]]:
        batch, local = next(iterator), {}
        for each in self.steps:
            view = type(each.computation.view)
            if view not in local:
                arguments = (1, iterator, batch, step, each.computation._accumulate, (states[0].loss_scale,))
                local[view] = replicas.over_micro_batches(self.strategy, *arguments)
        of_steps = [local[type(each.computation.view)] for each in self.steps]
        scale, coefficients = states[0].loss_scale, states[0].coefficients
        states = [state._replace(loss_scale=scale, coefficients=coefficients) for state in states]

        def combine(of_steps: list, step: tf.Tensor, states: list[State]) -> list[tuple[Applied, StepSummary]]:
            measure = tf.constant(True)
            return [
                each.computation._reduce_and_combine(own, step, measure, state)
                for each, own, state in zip(self.steps, of_steps, states, strict=True)
            ]

        with _what_methods_share_is_traced_once():  # not within: the replicas' functions are traced in threads
            both = self.strategy.run(combine, args=(of_steps, step, states))
        applied = [own for own, _ in both]
        summaries = [replicas.first(self.strategy, summary) for _, summary in both]
        after = []
        for each, state, summary in zip(self.steps, states, summaries, strict=True):
            finite, accepted = summary.checked()
            outcome = each.observation.observed(batch, step, summary, accepted)
            totals = each.initial_totals()
            after.append(each.carried.next(state, totals, step, summary, finite, accepted, outcome)[0])
        accepted = summaries[0].checked()[1]
        self.steps[0].updates.apply(applied[0], step, summaries[0].active, accepted)
        return applied, summaries, after


def _step(config: Config, built: Experiment) -> Step:
    """The step of another method for the same model and data."""
    own = optimization.build(
        config.combine,
        config.losses,
        config.optimizer,
        config.shared_optimizer,
        config.ema,
        built.reach,
        built.timeline,
        built.strategy,
    )
    shared = network.Network(built.model, built.losses, (), {}, built.data)
    masked, plan = built.step.objectives.masked, plan_lib.of(config)
    return build_step.build(config, plan, shared, built.reach, masked, own, built.timeline, built.strategy, None)


@contextlib.contextmanager
def _what_methods_share_is_traced_once() -> Iterator[None]:
    """The cross-replica sum, normalizers, norms and inner products are the same for all methods: the same tensors."""
    found: dict[tuple, tuple[Any, Any]] = {}

    def once(function: Callable[..., Any], is_method: bool = False) -> Callable[..., Any]:
        def of_the_first(*args: Any, **kwargs: Any) -> Any:
            inputs = tf.nest.flatten((args[is_method:], tuple(kwargs.values())))
            key = (function, tf.compat.v1.get_default_graph(), *map(id, inputs))
            if key not in found:
                found[key] = (inputs, function(*args, **kwargs))  # keeps the inputs, so that no other has their id
            return found[key][1]

        return of_the_first

    with contextlib.ExitStack() as stack:
        for owner, name in ((Reduction, "sum"), (PerLoss, "_normalizers"), (Objectives, "problem")):
            stack.enter_context(mock.patch.object(owner, name, once(getattr(owner, name), is_method=True)))
        shared = (
            (absence, "cleared"),
            (statistics, "finite"),
            (statistics, "norms_and_cosines"),
            (gramian, "of_shared"),
        )
        for module, name in shared:
            stack.enter_context(mock.patch.object(module, name, once(getattr(module, name))))
        yield
