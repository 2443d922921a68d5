"""Launchers that leave nothing behind, an sshd of the tests' own, and the manifests of Kubernetes."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence

import pytest
import yaml

from tests.launch.manifests import FILES, by_name
from tests.launch.programs import MARK, left_after
from tests.launch.slurm import cluster as slurm

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def launch(root, tmp_path):
    """Starts launchers; nothing that they started may be left, and the test ends with that."""
    mark = str(uuid.uuid4())
    started = []

    def start(
        *arguments: str, prefix: Sequence[str] = (), errors: int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "launch.workers", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", MARK: mark, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert left_after(5, mark) == []


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """An sshd on 127.0.0.1 for this user alone; gives the ssh command that reaches it."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd (on Debian and Ubuntu: apt install openssh-server)")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    if os.geteuid() == 0:
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it keeps its unprivileged part
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "MaxStartups": "100",
    }
    client = {
        "Port": port,
        "IdentityFile": folder / "user",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    for name, settings in (("sshd_config", server), ("ssh_config", client)):
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log
        )
    command = f"ssh -F {folder}/ssh_config"
    try:
        deadline = time.monotonic() + 10
        while subprocess.run([*command.split(), "-oBatchMode=yes", "127.0.0.1", "true"]).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield command
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def cluster():
    """A Slurm of two nodes on this machine."""
    if reason := slurm.missing():
        pytest.skip(reason)
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with slurm.running(first_job=1 + 50 * process) as running:
        yield running


@pytest.fixture(scope="session")
def slurm_project(tmp_path_factory, root):
    """A copy of the project with its environment, where jobs are submitted."""
    copy = tmp_path_factory.mktemp("slurm") / "project"
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "slurm-*.out", ".*_cache", "__pycache__")
    shutil.copytree(root, copy, ignore=ignored)
    if (root / ".venv").exists():
        (copy / ".venv").symlink_to(root / ".venv")
    return copy


@pytest.fixture(scope="module")
def folder(root) -> pathlib.Path:
    return root / "launch" / "kubernetes"


@pytest.fixture(scope="module")
def written(folder) -> dict[str, dict]:
    """The objects as they are in the files."""
    return by_name(document for file in FILES for document in yaml.safe_load_all((folder / file).read_text()))


@pytest.fixture(scope="module")
def pod(written) -> dict:
    return written["JobSet"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod) -> dict:
    (container,) = pod["spec"]["containers"]
    return container
