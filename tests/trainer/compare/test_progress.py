"""The table of a comparison's progress, and its lines where there is no terminal."""

import io

import pytest
from rich.console import Console

from trainer.compare import progress as progress_lib
from trainer.compare.messages import Event
from trainer.compare.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """The time that the progress sees, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(progress_lib.time, "monotonic", lambda: now[0])
    return now


def _console(width=80, height=24, terminal=True):
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None)


def _lines(progress, console):
    with console.capture() as captured:
        console.print(progress._table())
    return captured.get().splitlines()


def _report(step, losses, split="validation"):
    return Event("report", 0, step, 900, split, {f"loss/{name}": 0.123456 for name in losses})


@pytest.mark.parametrize("losses", [1, 3, 8, 40])
@pytest.mark.parametrize("width", [80, 60])
def test_every_line_fits_with_many_cells_and_losses(clock, losses, width):
    console = _console(width)
    cells = {f"method_{number} model.trunk=[{{'layer': 'Dense', 'units': {number}}}]": (3, 0) for number in range(60)}
    progress = Progress(cells, "", console)
    for number, cell in enumerate(list(cells)[:40]):
        for event in (Event("started"), _report(450, [f"loss_{index}" for index in range(losses)])):
            progress.take(cell, event)
        if number < 39:
            progress.take(cell, Event("done"))
    lines = _lines(progress, console)
    assert len(lines) <= console.height
    assert max(map(len, map(str.rstrip, lines))) <= width
    assert "…" in lines[1]
    (current,) = (line for line in lines if line.startswith("method_39"))
    assert "0/3" in current
    assert "450/900" in current
    assert "loss_0 0.1235" in current
    assert (losses > 1) == ("+" in current or "loss_1 0.1235" in current)


def test_a_table_of_a_few_cells(clock):
    console = _console()
    progress = Progress({"sum": (2, 1), "mgda": (2, 0), "famo": (2, 0)}, "digit/accuracy", console)
    progress.fail("famo", "micro_batches=2: must be 1")
    progress.take("sum", Event("started", 1))
    clock[0] = 10.0
    values = {"loss/digit": 0.5, "digit/accuracy": 0.98}
    progress.take("sum", Event("report", 1, 450, 900, "validation", values))
    assert [line.rstrip() for line in _lines(progress, console)] == [
        "cell runs    step validation",
        "sum   1/2 450/900 digit/accuracy 0.98",
        "mgda  0/2",
        "famo  2/2         failed",
        "3 of 6 runs  (0:00:50 left)",
    ]


def test_lines_where_there_is_no_terminal(clock):
    console = _console(terminal=False)
    with Progress({"sum": (2, 0), "mgda": (1, 0)}, "", console) as progress:
        for seed in (0, 1):
            progress.take("sum", Event("started", seed))
            progress.take("sum", _report(900, ["a", "b"]))
            clock[0] += 5.0
            progress.take("sum", Event("done", seed) if seed == 0 else Event("failed", seed, reason="step 3: why"))
        progress.take("mgda", Event("started", 0))
    assert console.file.getvalue().splitlines() == [
        "sum, seed 0: 900 steps  a 0.1235  b 0.1235  (0:00:10 left)",
        "sum, seed 1: step 3: why",
    ]


def test_a_line_where_there_is_no_terminal_names_as_many_losses_as_are_read(clock):
    console = _console(terminal=False)
    with Progress({"sum": (1, 0)}, "", console) as progress:
        progress.take("sum", Event("started", 0))
        progress.take("sum", _report(900, [f"loss_{index}" for index in range(40)]))
        progress.take("sum", Event("done", 0))
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("sum, seed 0: 900 steps  loss_0 0.1235  loss_1 0.1235")
    assert line.endswith("  +28")
    assert len(line) <= 230
