"""Workers in networks of their own, one of which is cut: no packet comes through, and no end of a connection."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.launch import pods, soak
from tests.launch.launched import write_config

MOST_SECONDS = 20  # until all have ended
CUT = (
    "table inet cut { chain input { type filter hook input priority 0; iif != lo drop; }; "
    "chain output { type filter hook output priority 0; oif != lo drop; }; }"
)


@contextlib.contextmanager
def _workers(directory: pathlib.Path, root: pathlib.Path, namespaces: list[str]) -> Iterator[list[subprocess.Popen]]:
    """A worker of the trainer in each network; what they print is in output_<rank>."""
    cluster = {"worker": [f"{pods.address(rank)}:2222" for rank in range(len(namespaces))]}
    command = [sys.executable, "-m", "trainer.main", "--strategy=multi_worker", "--config=config.py", "--workdir=run"]
    with contextlib.ExitStack() as stack:
        processes = []
        for rank, namespace in enumerate(namespaces):
            task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
            environment = os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", "TF_CONFIG": task}
            output = stack.enter_context((directory / f"output_{rank}").open("w"))
            processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", namespace, *command],
                    cwd=directory,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        yield processes


@pytest.mark.ci_only
@pytest.mark.parametrize("cut", [0, 1])
def test_a_cut_network_ends_all(tmp_path, root, cut):
    """On both sides, whether it is the chief's or another one's."""
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if reason := pods.missing() or ("" if nft else "needs nft"):
        pytest.skip(reason)
    changes = soak.CHANGES | {"steps_per_loop": 5, "report_every": 10, "eval_every": 1000, "checkpoint_every": 1000}
    write_config(tmp_path / "config.py", **changes, steps=100_000)
    with pods.networks(3) as namespaces, _workers(tmp_path, root, namespaces) as processes:
        outputs = [tmp_path / f"output_{rank}" for rank in range(3)]
        deadline = time.monotonic() + 120
        while "20/" not in outputs[0].read_text():
            assert time.monotonic() < deadline, [output.read_text() for output in outputs]
            time.sleep(0.1)
        subprocess.run(["ip", "netns", "exec", namespaces[cut], nft, CUT], check=True)
        start = time.monotonic()
        assert [process.wait(timeout=60) for process in processes] == [1] * 3
        assert time.monotonic() - start < MOST_SECONDS
        for rank, output in enumerate(outputs):
            assert f"error: worker {rank}: lost worker " in output.read_text().splitlines()[-1]
