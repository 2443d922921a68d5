"""The processes of a run on several machines, read from their launcher's variables. Needs no TensorFlow.

Three launchers are known, the first that has set its variables counts:

    TF_CONFIG                       TensorFlow's own way; `python -m launch.workers` sets it
    SLURM_STEP_NODELIST and others  a step that `srun` has started, one task per machine or per GPU
    JOB_COMPLETION_INDEX            a pod of an indexed Kubernetes job, with TRAINER_WORKERS, TRAINER_SERVICE and
                                    TRAINER_PORT from its manifest

TensorFlow's own resolver for Slurm is not used: it sorts hosts as strings, so that ranks and hosts do not match.
"""

import dataclasses
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.common import json_text
from trainer.common.errors import ConfigError, first_line

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):([0-9]{1,5})")
_NUMBER = re.compile("[0-9]{1,12}")
_TF_CONFIG = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
# Of a job under Slurm: below the ports that Linux gives to outgoing connections, apart for jobs that share a machine.
_FIRST_PORT, _JOBS, _PORTS_PER_JOB = 12000, 312, 64


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run.

    Attributes:
      addresses: `host:port` of every worker, by rank; the first one is the chief.
      rank: which of them this process is.
      launcher: the source of all this, for messages.
    """

    addresses: tuple[str, ...]
    rank: int
    launcher: str


def from_environment(environment: Mapping[str, str]) -> Cluster:
    """Returns the cluster that this process belongs to.

    Args:
      environment: the process's environment variables.

    Raises:
      ConfigError: no launcher has left its variables, or they cannot be used.
    """
    if environment.get("TF_CONFIG", "").strip():
        return _of_tf_config(environment["TF_CONFIG"])
    if "SLURM_STEP_NODELIST" in environment:
        return _of_slurm(environment)
    if "JOB_COMPLETION_INDEX" in environment:
        return _of_kubernetes(environment)
    if "SLURM_JOB_ID" in environment:
        raise ConfigError("--strategy", "multi_worker", "in a Slurm job is for tasks: start the program with srun")
    raise ConfigError(
        "--strategy",
        "multi_worker",
        "needs TF_CONFIG, a Slurm step or an indexed Kubernetes job; on one machine, "
        "python -m launch.workers --workers=2 -- python -m trainer.main ... sets it",
    )


def _of_tf_config(text: str) -> Cluster:
    field = "TF_CONFIG"
    try:
        given = json_text.parse(text)
        jobs = {job: list(addresses) for job, addresses in given["cluster"].items()}
        kind, index = given["task"]["type"], _rank(given["task"]["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"must be JSON such as {_TF_CONFIG} ({type(error).__name__}: {first_line(error)})"
        raise ConfigError(field, text, reason) from error
    for job in jobs:
        if job not in ("chief", "worker"):
            raise ConfigError(field, text, f"has the job {job!r}; every process is a worker here (or the one chief)")
    if not isinstance(kind, str) or kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise ConfigError(field, text, f"its task {kind!r} {index} is not in its cluster")
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    if len(chiefs) > 1:
        raise ConfigError(field, text, "has more than one chief")
    return Cluster(_checked([*chiefs, *workers], field, text), index + (len(chiefs) if kind == "worker" else 0), field)


def _rank(index: Any) -> int:
    """A task's index, a whole number or one as text; raises ValueError for anything else."""
    if type(index) is int or (isinstance(index, str) and _NUMBER.fullmatch(index)):
        return int(index)
    raise ValueError("the index is no whole number")


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    nodes = environment["SLURM_STEP_NODELIST"]
    tasks = _slurm_tasks_per_node(_needed(environment, "SLURM_STEP_TASKS_PER_NODE", "srun sets it"))
    rank, node, job = (
        _integer(environment, name, "srun sets it") for name in ("SLURM_PROCID", "SLURM_NODEID", "SLURM_JOB_ID")
    )
    hosts = _slurm_hosts(nodes)
    if len(hosts) != len(tasks):
        reason = f"names {len(hosts)} nodes, SLURM_STEP_TASKS_PER_NODE has {len(tasks)}"
        raise ConfigError("SLURM_STEP_NODELIST", nodes, reason)
    node_of_rank = [index for index, count in enumerate(tasks) for _ in range(count)]
    if max(tasks) > _PORTS_PER_JOB:
        raise ConfigError("SLURM_STEP_TASKS_PER_NODE", max(tasks), f"must be at most {_PORTS_PER_JOB}, or one per GPU")
    if rank >= len(node_of_rank) or node_of_rank[rank] != node:
        reason = f"is not where srun --distribution=block, which is needed, puts rank {rank}"
        raise ConfigError("SLURM_NODEID", node, reason)
    first_port = _FIRST_PORT + job % _JOBS * _PORTS_PER_JOB
    # By rank, not by place on the node: Slurm's nodes may be the same machine under several names.
    addresses = [f"{hosts[at]}:{first_port + index % _PORTS_PER_JOB}" for index, at in enumerate(node_of_rank)]
    return Cluster(_checked(addresses, "SLURM_STEP_NODELIST", nodes), rank, "Slurm")


def _slurm_hosts(nodes: str) -> list[str]:
    command = ["scontrol", "show", "hostnames", nodes]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"{' '.join(command[:3])} fails: {first_line(error)}"
        raise ConfigError("SLURM_STEP_NODELIST", nodes, reason) from error


def _slurm_tasks_per_node(text: str) -> list[int]:
    """`2(x3),1` → 2, 2, 2, 1."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part.strip())
        if not match:
            raise ConfigError("SLURM_STEP_TASKS_PER_NODE", text, "must be numbers such as 2(x3),1")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _of_kubernetes(environment: Mapping[str, str]) -> Cluster:
    why = "launch/kubernetes sets it"
    rank = _integer(environment, "JOB_COMPLETION_INDEX", "an indexed job sets it")
    workers, port = (_integer(environment, name, why) for name in ("TRAINER_WORKERS", "TRAINER_PORT"))
    service = _needed(environment, "TRAINER_SERVICE", why)
    host = _needed(environment, "HOSTNAME", "every pod has it")
    prefix, dash, index = host.rpartition("-")
    if not dash or index != str(rank):
        raise ConfigError("HOSTNAME", host, f"must end with -{rank}, this pod's JOB_COMPLETION_INDEX")
    if rank >= workers:
        raise ConfigError("TRAINER_WORKERS", workers, f"must be more than this pod's JOB_COMPLETION_INDEX, {rank}")
    addresses = [f"{prefix}-{index}.{service}:{port}" for index in range(workers)]
    return Cluster(_checked(addresses, "TRAINER_SERVICE", service), rank, "Kubernetes")


def _checked(addresses: Sequence[Any], field: str, value: str) -> tuple[str, ...]:
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not match or not 0 < int(match[2]) < 65536:
            raise ConfigError(field, value, f"{address!r} must be a host and a port, host:port")
    if len(set(addresses)) < len(addresses):
        raise ConfigError(field, value, "names an address twice")
    return tuple(addresses)


def _needed(environment: Mapping[str, str], name: str, why: str) -> str:
    if name not in environment:
        raise ConfigError(name, ConfigError.ABSENT, f"is not set; {why}")
    return environment[name]


def _integer(environment: Mapping[str, str], name: str, why: str) -> int:
    text = _needed(environment, name, why)
    if not _NUMBER.fullmatch(text):
        raise ConfigError(name, text, "must be a whole number, 0 or more")
    return int(text)
