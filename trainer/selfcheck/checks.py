"""Every check: of devices, replicas, collectives, precisions, and of the server beside the workers."""

import functools
from typing import TYPE_CHECKING

from trainer.selfcheck import network
from trainer.selfcheck.outcome import CheckOutcome, Status
from trainer.selfcheck.running import Check

if TYPE_CHECKING:
    import tensorflow as tf

    from trainer.distributed.cluster import Cluster


def by_name(strategy: "tf.distribute.Strategy", cluster: "Cluster | None") -> dict[str, Check]:
    """Every check by its name, in order.

    Args:
      strategy: the replicas.
      cluster: the workers, where there are several processes.
    """
    from trainer.selfcheck import collectives, devices, training  # --help must not wait for TensorFlow

    trainings = training.Trainings(strategy)
    same = {
        f"one device's result, {precision}, {method}": functools.partial(
            trainings.same_as_one_device, precision, method
        )
        for precision, method in (
            ("float64", "weighted"),
            ("float64", "pcgrad"),
            ("float64", "independent"),
            ("float32", "pcgrad"),
        )
    }
    return {
        "devices": functools.partial(devices.check, strategy),
        "gradients are summed once": functools.partial(collectives.summed_once, strategy),
        **same,
        "the same bits again": trainings.same_bits_again,
        "all-reduce": functools.partial(collectives.bandwidth, strategy),
        "mixed_bfloat16": functools.partial(trainings.falls, "mixed_bfloat16"),
        "mixed_float16": functools.partial(trainings.falls, "mixed_float16"),
        "XLA": functools.partial(trainings.falls, "float32", compile="passes"),
        "network": functools.partial(_network, cluster),
    }


def _network(cluster: "Cluster | None") -> CheckOutcome:
    if cluster is None:
        return CheckOutcome(Status.SKIPPED, "no server: this is one process")
    return network.check(int(cluster.addresses[cluster.rank].rpartition(":")[2]))
