"""The step: how a batch becomes an update.

    global batch ──split──► replica r
        compute     forward, per-example losses, backward passes: sums over this replica's part
                    (repeated for each micro-batch, adding up); one cross-replica sum; global means;
                    how the losses' gradients are mixed; clip
        accept      is every loss and every gradient finite? If not, nothing below changes a variable
        apply       every optimizer that has something to do updates its variables; nothing is reduced again
        observe     the losses after the update, for a combination that wants to know them
        carry on    what the next step reads, and totals for the report

`compute` is done by `per_loss.py` (a backward pass for every loss), `fused.py` (one for their weighted sum),
`features.py` (one for every loss to the features, one from there), or two of these in turn (`alternating.py`,
`probes.py`): `config/plan.py` chooses, `build.py` makes it. What travels between replicas, in numbers, is in
`trainer/step/__init__.py`. Conditions (a step that is not accepted, an optimizer whose losses have no label) stand
around `strategy.run`, because a `tf.cond` within it cannot hold an optimizer's apply.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from trainer.components import optimizers
from trainer.gradients.reach import Reach
from trainer.step import carried, in_graph_loop, report
from trainer.step.carried import Carried, Parts
from trainer.step.computation import Computation
from trainer.step.in_graph_loop import Probing, Train
from trainer.step.objectives import Objectives
from trainer.step.observation import AfterUpdate
from trainer.step.probes import Probes
from trainer.step.report import Failure
from trainer.step.update import Updates
from trainer.step.values import State, Totals


@dataclasses.dataclass(frozen=True)
class Step:
    """Everything a step is made of.

    Attributes:
      objectives: the model's losses.
      reach: which of them reach which variable.
      computation: how the gradients are computed and combined.
      probes: steps in which they are computed in another way, in the in-graph loop; None: there are none.
      updates: the optimizers.
      observation: what is looked at after the update.
      carried: what of a step later ones, checkpoints and reports read.
    """

    objectives: Objectives
    reach: Reach
    computation: Computation
    probes: Probes | None
    updates: Updates
    observation: AfterUpdate
    carried: Carried

    def one_step(
        self, iterator: Any, step: tf.Tensor, measure: tf.Tensor, state: State, totals: Totals
    ) -> tuple[State, Totals]:
        """Takes one step.

        Args:
          iterator: gives the step's micro-batches; the whole batch, where its size varies (`Objectives.varying`).
          step: its number from 0, scalar int64.
          measure: scalar bool, whether norms and cosines of the losses' gradients are wanted.
          state: what the step before left.
          totals: of the steps since the last report.

        Returns:
          What the next step reads, and the totals with this step.
        """
        batch = next(iterator)  # the first micro-batch, on every replica its part
        applied, summary = self.computation.compute(iterator, batch, step, measure, state)
        finite, accepted = summary.checked()
        self.updates.apply(applied, step, summary.active, accepted)
        outcome = self.observation.observed(batch, step, summary, accepted)
        return self.carried.next(state, totals, step, summary, finite, accepted, outcome)

    def build(self) -> Train:
        """The in-graph loop over steps, as `in_graph_loop.build` returns it."""
        probing = None
        if self.probes is not None:
            of_probes = dataclasses.replace(self, computation=self.probes.computation)
            probing = Probing(of_probes.one_step, self.probes.next)
        remembered = (self.remembered, self.with_remembered)
        return in_graph_loop.build(self.one_step, probing, *remembered, compiled=self.objectives.compiled)

    def initial_state(self) -> State:
        """The state at the start of a run."""
        return self.carried.initial_state()

    def initial_totals(self) -> Totals:
        """The totals at the start of a run and after every report."""
        return carried.initial_totals(self.objectives.count)

    def checkpointed(self, state: State, totals: Totals) -> Parts:
        """The parts of a checkpoint that are the step's: all but the model and the optimizers."""
        return self.carried.checkpointed(state, totals) | self.updates.checkpointed()

    def remembered(self, state: State) -> dict[str, tf.Tensor]:
        """The tensors of the state that later steps read, by name; the same on every worker."""
        return self.carried.remembered(state)

    def with_remembered(self, state: State, values: Mapping[str, tf.Tensor]) -> State:
        """The state with these values, by the names of `remembered`, in place of its own."""
        return self.carried.with_remembered(state, values)

    def restored(self, parts: Parts) -> tuple[State, Totals]:
        """State and totals from the parts that `checkpointed` made, once they hold the values to resume from."""
        return self.carried.restored(parts)

    def averages(self) -> Parts:
        """The part of `checkpointed` that an evaluation needs beside the model: averages of its variables, if any."""
        return self.updates.averages_of_variables()

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model holds the moving averages of its variables within this context, where the run keeps them."""
        return self.updates.averaged()

    def report(self, state: State, totals: Totals, step: int) -> dict[str, float | None]:
        """The values of the steps since the last report, by name: `report.values`, learning rates, loss scale.

        Args:
          state: what the last step left.
          totals: of the steps since the last report.
          step: the number of steps taken; learning rates are those of the next one.
        """
        method, names = self.carried.combination.method, self.objectives.names
        values = report.values(totals, names, sharing=bool(self.reach.shared), method=method)
        rates = optimizers.learning_rates(self.updates.groups, step)
        values |= {f"learning_rate/{name}": rate for name, rate in rates.items()}
        return values | self.carried.scaling.reported(state.loss_scale)

    def failure(self, totals: Totals) -> Failure | None:
        """The first step since the last report that could not be taken; None where there is none."""
        return report.failure(totals, self.objectives.names, self.carried.combination)
