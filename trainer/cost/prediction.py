"""From a configuration to the cost of a step: the model is built and counted, and nothing is trained."""

from collections.abc import Sequence

from trainer import command_line
from trainer.common.trust import NOBODY, Trust
from trainer.config.settings import Config
from trainer.cost import tables as tables_lib
from trainer.cost.machine import Machine
from trainer.cost.passes import Passes
from trainer.cost.tables import Table
from trainer.cost.workload import Workload


def count(config: Config, batch: int, trust: Trust = NOBODY) -> tuple[Workload, Passes]:
    """Returns the workload of a configuration's step, with `batch` examples on a replica, and its passes.

    `trust` says whose code may be called where the data name it.
    """
    with command_line.quiet():
        command_line.import_keras()
        import tensorflow as tf  # mistakes in the flags or the configuration must not wait for it

        from trainer.cost import counting
        from trainer.distributed import strategy
        from trainer.run import experiment

    strategy.hide_gpus()
    built = experiment.build(config, tf.distribute.OneDeviceStrategy("/cpu:0"), trust=trust)
    return counting.of_experiment(built, batch)


def tables(
    workload: Workload,
    passes: Passes,
    machine: Machine,
    replicas: Sequence[int],
    *,
    losses: Sequence[int],
    compare: bool,
) -> list[Table]:
    """Returns tables of a step's cost on a machine.

    Args:
      workload: of all losses.
      passes: how the step is computed.
      machine: the devices.
      replicas: numbers of them.
      losses: for each of these numbers n, only the first n of the losses; empty: all of them.
      compare: every class of methods against the plain sum in one table, instead of a table each of what is
        configured.
    """
    workloads = [workload.first(count) for count in losses or [workload.losses]]
    if compare:
        return [tables_lib.comparison(workloads, passes, machine, replicas)]
    return [tables_lib.prediction(each, passes, machine, replicas) for each in workloads]
