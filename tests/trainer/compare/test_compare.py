"""A grid of methods and seeds: ordinary runs with the same start, continued, added to, or refused."""

import pytest

from tests.trainer.compare.conftest import METHODS, REFUSED, SEEDS
from trainer.compare import collected


@pytest.fixture(scope="module")
def found(compared):
    return {cell.name: cell for cell in collected.read(compared.workdir).cells}


def test_every_run_is_there_and_a_method_that_cannot_run_says_why(compared, found):
    assert compared.result.returncode == 1
    assert (
        compared.result.stderr
        == f"error: these runs failed, and the results say why: {REFUSED} (seed 0), {REFUSED} (seed 1)\n"
    )
    assert list(found) == [*METHODS, REFUSED]
    for name in METHODS:
        assert list(found[name].runs) == list(SEEDS)
        assert not found[name].failures
        for seed, run in found[name].runs.items():
            assert (run.method, run.seed, run.last_step, run.is_complete) == (name, seed, 40, True)
    assert not found[REFUSED].runs
    for seed in SEEDS:
        assert found[REFUSED].failures[seed].startswith("micro_batches=2: must be 1")
