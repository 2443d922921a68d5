import numpy as np
import pytest

from tests.benchmarks import combine, processes, table
from tests.benchmarks.problems import Gradients
from tests.benchmarks.rounds import Workers


def test_rows_that_conflict_and_rows_that_do_not():
    conflicting, plain = Gradients(4, 1000).gramians()[:2]
    assert conflicting[0, 1] < 0 < conflicting[0, 2]
    np.testing.assert_allclose(np.diag(plain), 1000, rtol=0.2)
    np.testing.assert_array_equal(Gradients(4, 10, "float64").rows(), Gradients(4, 10).rows())


def test_every_bound_has_a_name_of_its_own():
    names = [bound.name for section in combine.all_sections(workers=None) for bound in section.bounds]
    assert len(set(names)) == len(names)


@pytest.mark.ci_only
def test_without_torch_its_bounds_are_not_measured_and_all_others_are(capsys):
    others = {"torch": processes.Other("false", ("torch", "torchjd"))}
    workers = Workers(lambda name: processes.start_worker(name, others), table.say, round_seconds=0)
    wanted = combine.all_sections(workers, counts=(3,), parameters=64, methods=["mgda", "config"])
    try:
        results = table.measure([section for section in wanted if section.name != "memory"], attempts=1)
    finally:
        workers.close()
    assert {r.bound.name for r in results if r.holds is None} == {"weights_3", "torchjd_3"}
    assert all(r.value is not None for r in results if r.holds is not None)
    assert capsys.readouterr().out.count("not measured") == 2
