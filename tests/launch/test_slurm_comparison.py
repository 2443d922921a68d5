"""A comparison as an array of jobs under a real Slurm."""

import json

import pytest

from tests import forked
from tests.launch.small import SMALL
from tests.readmes import SLURM

_ENDED = 300  # seconds until a job is over


@pytest.mark.ci_only
def test_an_array_trains_the_cells_of_a_comparison(cluster, slurm_project):
    """The page's commands, with fewer steps: a task for each cell, then a call that trains nothing and reports."""
    *_, cells, report = SLURM
    few = (*SMALL, "--config.steps=20", "--seeds=1", "--timed_steps=0")
    array = cluster.submit(slurm_project, *cells.split()[1:], *few)
    for task in (1, 2):
        ended = cluster.wait_for_end(f"{array}_{task}", _ENDED)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0")
    runs = sorted((slurm_project / "runs" / "compared").glob("*/seed_0/metrics.jsonl"))
    before = {path: (path.parent.parent.name, path.stat().st_mtime_ns) for path in runs}
    assert [name for name, _ in before.values()] == ["pcgrad", "weighted"]
    assert not (slurm_project / "runs" / "compared" / "report.md").exists()
    result = forked.run(*report.split()[2:], *few, cwd=slurm_project)
    assert (result.returncode, result.stderr) == (0, "")
    assert all(path.stat().st_mtime_ns == time for path, (_, time) in before.items())
    results = json.loads((slurm_project / "runs" / "compared" / "results.json").read_text())
    assert [cell["name"] for cell in results["cells"]] == ["weighted", "pcgrad"]
