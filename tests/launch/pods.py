"""Pods without a cluster: every container of a JobSet's pods in Linux namespaces of its own, as its manifest says.

A pod has its own network and address, host name, process numbers, user and volumes, and a read-only root: the image's
files over this machine's, which stand for the base image. What the job's controller and the kubelet would set is set.
It takes root's rights.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from tests.launch import image

# Mounts the root, then runs what follows as a child of process 1, as where a pod's containers share their process
# namespace. Python may be where only root can read.
_ENTER = """
set -eu
layer=$1 root=$2 hostname=$3 user=$4 group=$5 directory=$6; shift 6
mount --make-rprivate /
hostname "$hostname"
mount -t overlay overlay -o "lowerdir=$layer:/" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /sys "$root/sys"
while [ "$1" != -- ]; do
  kind=$1 source=$2 target=$3; shift 3
  case $kind in
    empty) mount -t tmpfs -o mode=1777 tmpfs "$root$target" ;;
    volume) mount --bind "$source" "$root$target" ;;
    python) mkdir -p "$root$target"; mount --bind -o ro "$source" "$root$target" ;;
  esac
done
shift
cd "$root"
chroot . setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs \
  --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \
  env --chdir="$directory" "$@" &
wait $!
"""


def missing() -> str | None:
    """Returns the reason why there can be no pods here; None where there can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    check = "mount --make-rprivate / && mount -t overlay overlay -o lowerdir=/var:/usr /mnt && command -v ip setpriv"
    result = subprocess.run(
        ["unshare", "--mount", "--uts", "--pid", "--net", "--fork", "bash", "-c", check], capture_output=True, text=True
    )
    return None if result.returncode == 0 else f"needs namespaces and overlays: {result.stderr.strip() or 'no ip'}"


class Pods:
    """The pods of a JobSet's one job.

    Attributes:
      processes: one process per pod, by index; it ends with its container's exit code.
      outputs: files with all that each has printed.
    """

    def __init__(self, processes: Sequence[subprocess.Popen], outputs: Sequence[pathlib.Path]):
        self.processes = processes
        self.outputs = outputs

    def signal(self, index: int, number: signal.Signals) -> None:
        """Sends a signal to a pod's container."""
        first = _child(self.processes[index].pid)
        os.kill(_child(first), number)

    def wait(self, timeout: float) -> list[tuple[int, str]]:
        """Exit codes and all output, by index.

        Where a pod fails, the others get a SIGTERM, as the job's controller sends it.

        Raises:
          TimeoutError: one of them runs for longer.
        """
        end, told = time.monotonic() + timeout, False
        while None in (codes := [process.poll() for process in self.processes]):
            if any(codes) and not told:
                told = True
                for index, code in enumerate(codes):
                    if code is None:
                        with contextlib.suppress(OSError, ValueError):  # it has just ended
                            self.signal(index, signal.SIGTERM)
            if time.monotonic() > end:
                raise TimeoutError(f"after {timeout} s: {list(zip(codes, self._texts(), strict=True))}")
            time.sleep(0.1)
        return list(zip(codes, self._texts(), strict=True))

    def _texts(self) -> list[str]:
        return [path.read_text() for path in self.outputs]


@contextlib.contextmanager
def start(job_set: dict, root: pathlib.Path, workdir: pathlib.Path, arguments: Sequence[str] = ()) -> Iterator[Pods]:
    """Starts the pods of a job; none remains afterwards.

    Args:
      job_set: the manifest.
      root: the repository.
      workdir: stands for the volume of every claim.
      arguments: added to the container's.
    """
    (job,) = job_set["spec"]["replicatedJobs"]
    name = f"{job_set['metadata']['name']}-{job['name']}-0"
    count, pod = job["template"]["spec"]["completions"], job["template"]["spec"]["template"]["spec"]
    hosts = [f"{name}-{index}" for index in range(count)]
    user = pod["securityContext"]
    os.chown(workdir, 0, user["fsGroup"])
    workdir.chmod(0o2775)
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        layer = place / "layer"
        layer.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layer], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", layer], check=True)
        namespaces = stack.enter_context(networks(count))
        image.copy(root, layer)
        (container,) = pod["containers"]
        for mount in container["volumeMounts"]:
            (layer / mount["mountPath"].lstrip("/")).mkdir(parents=True, exist_ok=True)
        names = [f"{address(index)} {host}.{pod['subdomain']} {host}" for index, host in enumerate(hosts)]
        (layer / "etc").mkdir(exist_ok=True)
        (layer / "etc" / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        processes, outputs = [], []
        for index, (host, network) in enumerate(zip(hosts, namespaces, strict=True)):
            at = place / str(index)
            at.mkdir()
            (directory,) = image.every(root, "WORKDIR")
            enter = ["bash", "-c", _ENTER, "enter", layer, at, host, user["runAsUser"], user["runAsGroup"], directory]
            variables = image.variables(root) | {each["name"]: each["value"] for each in container["env"]}
            path = f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin"
            variables |= {"JOB_COMPLETION_INDEX": str(index), "HOSTNAME": host}
            variables |= {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
            command = [
                *("ip", "netns", "exec", network),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
                *map(str, enter),
                *_mounts(container, pod["volumes"], workdir),
                "--",
                "--ignore-environment",
                *(f"{key}={value}" for key, value in variables.items()),
                *container["command"],
                *container["args"],
                *arguments,
            ]
            output = place / f"output_{index}"
            with output.open("w") as file:
                process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            stack.callback(_end, process)
            processes.append(process)
            outputs.append(output)
        yield Pods(processes, outputs)


def _child(pid: int) -> int:
    (child,) = map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return child


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _mounts(container: dict, volumes: Sequence[dict], workdir: pathlib.Path) -> list[str]:
    """Kind, source and target of every mount."""
    mounts, places = [], {volume["name"]: volume for volume in volumes}
    for mount in container["volumeMounts"]:
        empty = "emptyDir" in places[mount["name"]]
        mounts += ["empty" if empty else "volume", "-" if empty else str(workdir), mount["mountPath"]]
    # What of Python and its packages an empty volume hides.
    for path in dict.fromkeys([sys.base_prefix, sys.prefix, *sys.path[1:]]):
        if pathlib.Path(path).is_dir() and any(
            pathlib.Path(path).is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"]
        ):
            mounts += ["python", path, path]
    return mounts


def address(index: int) -> str:
    """The address in a network namespace of `networks`."""
    return f"10.255.77.{index + 1}"


@contextlib.contextmanager
def networks(count: int) -> Iterator[list[str]]:
    """Names of network namespaces with an address each, one switch between them and no way out."""
    prefix = f"pods{os.getpid()}"
    switch, names = f"{prefix}-switch", [f"{prefix}-{index}" for index in range(count)]
    with contextlib.ExitStack() as stack:
        for name in (switch, *names):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        for index, name in enumerate(names):
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"pod{index}", "netns", switch)
            _ip("-n", switch, "link", "set", f"pod{index}", "master", "switch", "up")
            _ip("-n", name, "address", "add", f"{address(index)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
