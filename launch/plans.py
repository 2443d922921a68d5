"""Plans that start each worker of a round, here or on hosts: its place in the cluster, its environment, its ports."""

import contextlib
import ipaddress
import json
import pathlib
import random
import re
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from launch import guardian
from launch.worker_process import WorkerStart
from trainer.common.errors import ConfigError

_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?([A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])")
# Below the ports that Linux gives to outgoing connections, above those that services have.
_LOCAL_PORTS = range(10000, 32768)
# Those that Linux gives to outgoing connections, and to servers that ask for no number (net.ipv4.ip_local_port_range).
_CHOSEN_PORTS = range(32768, 61000)
# Every login shell understands this; the rest goes through the standard input, where nothing needs to be quoted.
_REMOTE = "exec python3 -c 'import json; exec(json.loads(open(0, \"rb\", 0, closefd=False).readline()))'"


def local(command: Sequence[str], directory: str, devices: Sequence[str | None]) -> list[WorkerStart]:
    """A worker on this machine for each of the devices, on free ports of its own.

    Args:
      command: what each of them runs.
      directory: where.
      devices: CUDA_VISIBLE_DEVICES of each; None where it stays as it is.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(devices))]
    start = [sys.executable, "-I", "-S", guardian.__file__]
    return [
        WorkerStart(
            f"worker {rank}",
            start,
            _request(command, directory, _variables(addresses, rank, own), None),
        )
        for rank, own in enumerate(devices)
    ]


def remote(
    command: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    hosts: Sequence[str],
    *,
    port: int,
    gpus_per_worker: int | None,
    ssh: Sequence[str],
    silence: float,
) -> list[WorkerStart]:
    """A worker on each host.

    Args:
      command: what each of them runs.
      directory: where, on its host.
      environment: variables for all of them, beside those of a login.
      hosts: `host` or `user@host`; the k-th worker on a host has the k-th port and the k-th GPUs.
      port: of the first worker on a host.
      gpus_per_worker: None for all that the host has.
      ssh: the command that connects, with its options.
      silence: seconds after which a connection counts as lost.
    """
    source = f"{json.dumps(pathlib.Path(guardian.__file__).read_text())}\n".encode()
    options = [f"ServerAliveInterval={max(1, int(silence / 3))}", "ServerAliveCountMax=3", "BatchMode=yes"]
    # A master connection would stay behind in the background and keep the output open.
    options += [f"ConnectTimeout={int(silence)}", "ControlMaster=no"]
    connect = [*ssh, "-T", *(part for option in options for part in ("-o", option))]
    places = [_bare(host) for host in hosts]
    turns = _turns(places)
    addresses = [f"{place}:{port + turn}" for place, turn in zip(places, turns, strict=True)]
    plans = []
    for rank, (host, turn) in enumerate(zip(hosts, turns, strict=True)):
        own = None
        if gpus_per_worker is not None:
            own = ",".join(str(gpu) for gpu in range(turn * gpus_per_worker, (turn + 1) * gpus_per_worker))
        request = _request(command, directory, {**environment, **_variables(addresses, rank, own)}, silence)
        start = [*connect, "--", host.replace("[", "").replace("]", ""), _REMOTE]
        plans.append(WorkerStart(f"worker {rank} ({host})", start, source + request, remote=True))
    return plans


def check_hosts(hosts: Sequence[str], port: int) -> None:
    """Raises ConfigError for a host that cannot be one and for ports beyond the last."""
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError("--hosts", host, "must be a host or user@host; several are separated by commas")
    if not hosts:
        raise ConfigError("--hosts", "", "must name at least one host")
    if port + max(_turns([_bare(host) for host in hosts])) > 65535:
        raise ConfigError("--port", port, "leaves too few ports up to 65535 for the workers on a host")


def firewall(hosts: Sequence[str], port: int, gpus_per_worker: int | None) -> str:
    """The nft command that lets nobody but the hosts reach the workers' ports, and on hosts with GPUs NCCL's.

    A table for each port, which the command replaces: of two clusters' tables for one port each would drop what the
    other accepts.

    Args:
      hosts: `host` or `user@host`.
      port: of the first worker on a host.
      gpus_per_worker: 0 where the hosts' GPUs are not used.

    Raises:
      ConfigError: a host is known here by an address of this machine alone, while others must reach it.
    """
    places = [_bare(host) for host in hosts]
    numbers = _numbers(places)
    tables = {f"trainer_{port + turn}": f"tcp dport {port + turn}" for turn in sorted(set(_turns(places)))}
    if gpus_per_worker != 0:
        # The system chooses NCCL's ports, as those of outgoing connections, whose packets come back to them.
        tables["trainer_nccl"] = f"tcp dport {_CHOSEN_PORTS[0]}-{_CHOSEN_PORTS[-1]} ct state new"
    return shlex.join(["nft", " ".join(_table(name, match, numbers) for name, match in tables.items())])


def _table(name: str, match: str, numbers: Sequence[str]) -> str:
    """The commands of nft for a table, in place of an earlier one, by which only these addresses reach what matches."""
    accepted = []
    for family, own in (("ip", [n for n in numbers if ":" not in n]), ("ip6", [n for n in numbers if ":" in n])):
        if own:
            accepted.append(f"{family} saddr {{ {', '.join(own)} }} {match} accept;")
    rules = " ".join(["iif lo accept;", *accepted, f"{match} drop;"])
    chain = f"chain input {{ type filter hook input priority 0; {rules} }};"
    return f"add table inet {name}; delete table inet {name}; table inet {name} {{ {chain} }};"


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, drawn at random, so that others who look at the same time find other ones."""
    with contextlib.ExitStack() as taken:
        ports: list[int] = []
        for port in random.SystemRandom().sample(_LOCAL_PORTS, len(_LOCAL_PORTS)):
            if len(ports) == count:
                break
            probe = taken.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("", port))  # as TensorFlow's server does, on every interface
                ports.append(port)
    return ports


def _request(command: Sequence[str], directory: str, environment: Mapping[str, str], silence: float | None) -> bytes:
    request = {"command": command, "directory": directory, "environment": environment, "silence": silence}
    return f"{json.dumps(request)}\n".encode()


def _variables(addresses: Sequence[str], rank: int, devices: str | None) -> dict[str, str]:
    cluster = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": rank}}
    variables = {"TF_CONFIG": json.dumps(cluster), "PYTHONUNBUFFERED": "1"}
    return variables if devices is None else {**variables, "CUDA_VISIBLE_DEVICES": devices}


def _bare(host: str) -> str:
    return host.rpartition("@")[2]


def _turns(places: Sequence[str]) -> list[int]:
    """Returns for each place the number of equal ones before it."""
    seen: Counter[str] = Counter()
    turns = []
    for place in places:
        turns.append(seen[place])
        seen[place] += 1
    return turns


def _numbers(places: Sequence[str]) -> list[str]:
    """The addresses of hosts as this machine sees them; a host's name, which nft looks up again, where there is none.

    Raises:
      ConfigError: a host has none but this machine's own loopback addresses, which no other host can reach.
    """
    numbers: dict[str, None] = {}
    loopback = {}
    for place in places:
        found = _addresses(place)
        own = [number for number in found if not ipaddress.ip_address(number).is_loopback]
        if found and not own:
            loopback[place] = found
        numbers |= dict.fromkeys(own or found or [place])
    if loopback and len(loopback) < len(set(places)):
        place, found = next(iter(loopback.items()))
        reason = f"is {', '.join(found)} here (/etc/hosts), where no other host reaches it; give the address they see"
        raise ConfigError("--hosts", place, reason)
    return list(numbers)


def _addresses(place: str) -> list[str]:
    try:
        found = socket.getaddrinfo(place.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(address[0].partition("%")[0] for *_, address in found))
