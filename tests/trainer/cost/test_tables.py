"""Tables of predictions: what their cells say, on a terminal and in Markdown."""

import io

import pytest
from rich.console import Console

from tests.trainer.cost.test_machine import MACHINE
from tests.trainer.cost.test_steps import WORKLOAD
from trainer.config.plan import Way
from trainer.cost import tables
from trainer.cost.passes import Passes
from trainer.cost.steps import steps


def _cells(table: tables.Table) -> dict[str, list[str]]:
    return {name: cells for name, *cells in table.rows}


def test_prediction():
    table = tables.prediction(WORKLOAD, Passes(gramian=True, full_every=10), MACHINE, [1, 8])
    assert table.title == (
        "K = 3, 813 parameters (807 shared): 3 backward passes in one of 10 steps, one in each of the others"
    )
    cells = _cells(table)
    (_, full), (_, plain) = steps(WORKLOAD, Passes(gramian=True, full_every=10))
    assert table.headings == ("", "1 replica", "8 replicas")
    assert cells["examples per replica"] == ["4", "4"]
    assert cells["reduced, MB"] == ["0", f"{(0.1 * full.reduced + 0.9 * plain.reduced) / 1e6:.3g}"]
    assert cells["gradients held, MB"] == [f"{full.held / 1e6:.3g}"] * 2
    assert cells["reduce, ms"][0] == "0"
    step = sum(share * MACHINE.step_seconds(cost, 8).step for share, cost in ((0.1, full), (0.9, plain)))
    assert float(cells["step, ms"][1]) == pytest.approx(1e3 * step, rel=1e-2)
    assert float(cells["examples per second"][1].replace(",", "")) == pytest.approx(8 * 4 / step, rel=1e-2)
    ratio = step / MACHINE.step_seconds(plain, 8).step
    assert cells["step, of the plain sum's"][1] == f"{ratio:.2f}"


def test_the_title_counts_passes():
    title = tables.prediction(WORKLOAD, Passes(gramian=True, halves=True), MACHINE, [8]).title
    assert title == "K = 3, 813 parameters (807 shared): 6 backward passes"


def test_a_plain_sum_is_once_itself():
    cells = _cells(tables.prediction(WORKLOAD, Passes(Way.FUSED, micro_batches=4), MACHINE, [8, 16]))
    assert cells["step, of the plain sum's"] == ["1.00", "1.00"]


def test_comparison():
    table = tables.comparison([WORKLOAD.first(2), WORKLOAD], Passes(reduce_width=2), MACHINE, [8])
    assert [row[1] for row in table.rows] == ["2"] * 9 + ["3"] * 9
    assert [row[0] for row in table.rows[:9]] == [row[0] for row in table.rows[9:]]
    assert table.rows[0][2] == "1.00"
    assert table.rows[0][-1].endswith(" ms")
    full, plain = (steps(WORKLOAD, Passes(way, gramian=way is Way.PER_LOSS))[0][1] for way in (Way.PER_LOSS, Way.FUSED))
    assert table.rows[12][2] == f"{full.operations / plain.operations:.2f}"


def test_markdown_and_terminal_show_the_same_cells():
    table = tables.Table("A title", ("name", "[x]"), (("a `b`", "1.00"), ("c", "2")))
    assert table.markdown() == "| name | [x] |\n| --- | ---: |\n| a `b` | 1.00 |\n| c | 2 |"
    output = io.StringIO()
    Console(file=output, width=80).print(table.for_terminal())
    for text in ("A title", "name", "[x]", "a `b`", "1.00"):
        assert text in output.getvalue()
