"""From operations and bytes to seconds, on a machine that is described by a few rates."""

import dataclasses
import math

from trainer.cost.steps import StepCost


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of a cluster: nodes of several devices, one replica on each.

    Attributes:
      tflops: a device's peak, in 10^12 operations per second, at the precision of the model.
      utilisation: how much of that forward and backward passes reach.
      float64_tflops: the same in float64, in which Gramians are computed.
      memory_gbytes: 10^9 bytes per second that a device reads and writes in its own memory.
      node_size: devices in a node.
      node_link_gbytes: 10^9 bytes per second that each device sends to another one of its node.
      link_gbytes: the same between nodes, for each device.
      latency_us: microseconds before any byte of a message arrives.
    """

    tflops: float
    utilisation: float
    float64_tflops: float
    memory_gbytes: float
    node_size: int
    node_link_gbytes: float
    link_gbytes: float
    latency_us: float

    def __str__(self) -> str:
        return (
            f"{self.tflops:g} TFLOP/s of which {100 * self.utilisation:g} % are reached, {self.float64_tflops:g} "
            f"TFLOP/s in float64, memory at {self.memory_gbytes:g} GB/s; nodes of {self.node_size} devices, each with "
            f"{self.node_link_gbytes:g} GB/s within the node and {self.link_gbytes:g} GB/s to others, "
            f"{self.latency_us:g} µs latency"
        )

    def step_seconds(self, cost: StepCost, replicas: int) -> "Seconds":
        """Returns the seconds of one step on this number of replicas, part by part."""
        rate = 1e12 * self.tflops * self.utilisation
        forward, backward = cost.forward / rate, cost.backward / rate
        combine = cost.float64 / (1e12 * self.float64_tflops) + cost.traffic / (1e9 * self.memory_gbytes)
        gathered = tuple(size * replicas for size in cost.gathered)
        alone = sum(self.all_reduce_seconds(size, replicas) for size in cost.alone + cost.statistics + gathered)
        late = self.all_reduce_seconds(sum(cost.late), replicas, messages=cost.packs)
        beside = min(late, backward * cost.overlap)
        return Seconds(forward + backward, combine, alone + late, beside)

    def all_reduce_seconds(self, size: int, replicas: int, *, messages: int = 1) -> float:
        """Returns the seconds to sum `size` bytes of every replica: a ring within each node, then rings between nodes.

        The bytes travel in `messages` parts; each device of a node takes its share of them to the other nodes.
        """
        inside = min(replicas, self.node_size)
        nodes = math.ceil(replicas / inside)
        latency = messages * self.latency_us / 1e6
        return _ring(size, inside, 1e9 * self.node_link_gbytes, latency) + _ring(
            size / inside, nodes, 1e9 * self.link_gbytes, latency
        )


@dataclasses.dataclass(frozen=True)
class Seconds:
    """A step's time in parts.

    Attributes:
      compute: forward and backward passes.
      combine: what is done with the gradients before and after their reduction.
      reduce: collectives.
      beside: the part of `reduce` that could at best overlap with the backward pass.
    """

    compute: float
    combine: float
    reduce: float
    beside: float

    @property
    def step(self) -> float:
        """One after the other, as with a single pack."""
        return self.compute + self.combine + self.reduce

    @property
    def overlapped(self) -> float:
        """The least it can be with gradients in many packs."""
        return self.step - self.beside


def _ring(size: float, members: int, rate: float, latency: float) -> float:
    """Reduce-scatter and all-gather: each member sends 2 (n - 1) parts of 1/n, one after another."""
    return 2 * (members - 1) * (size / members / rate + latency)
