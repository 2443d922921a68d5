"""A run on a terminal of 80 columns, whatever the number of losses."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from trainer.output import terminal
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.terminal import Terminal


@pytest.mark.parametrize("count", [3, 8, 40])
def test_80_columns_hold_the_step_and_every_number_whole(count, tmp_path):
    losses = {f"loss_{k}_of_the_age_in_years": "head" for k in range(count)}
    values = {f"loss/{name}": 1234.5 + k for k, name in enumerate(losses)}
    values |= {f"{name}/mean_absolute_error": 0.001234 for name in losses}
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, highlight=False, color_system=None)
    with Terminal(tmp_path / "log.txt", 0, 100_000, losses, lambda call, *given: call(*given), console) as shown:
        shown.write(Report(1_000, TRAIN, values), 123.4)
        shown.write(Report(2_000, VALIDATION, values))
        shown.advance(2_000)
    lines = [Text.from_ansi(line.rsplit("\r", 1)[-1]).plain.rstrip() for line in output.getvalue().split("\n")]
    assert max(map(len, lines)) <= 80
    for k, name in enumerate(losses):
        assert lines.count(f"  {name} {1234.5 + k:.4g} (mean_absolute_error 0.001234)") == 2
    bar = next(line for line in reversed(lines) if line.startswith("step") and TRAIN not in line)
    assert "2000/100000" in bar
    assert "123.4 steps/s" in bar
    assert bar.split()[-1].count(":") in (1, 2)  # time left, whole
    logged = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.count("mean_absolute_error") for line in logged] == [count, count]


def test_80_columns_hold_a_table_of_long_names():
    """They continue on the next line; no number does."""
    losses = {f"loss_{k}_of_the_age_in_years_of_people": f"head_of_the_ages_of_all_people_{k}" for k in range(3)}
    values = {f"loss/{name}": 1234.5 for name in losses}
    values |= {f"{name}/root_mean_squared_error_in_years": -0.001234 for name in losses}
    output = io.StringIO()
    console = Console(file=output, width=80, highlight=False)
    terminal.print_table(Report(9, VALIDATION, values), losses, title="Validation after 9 steps", console=console)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in output.getvalue()
    head, loss, value, metrics = zip(*(line.strip("│").split("│") for line in lines if line[0] == "│"), strict=True)
    for column, names in ((head, losses.values()), (loss, losses)):
        assert "".join(map(str.strip, column)) == "".join(names)
    assert [each.strip() for each in value if each.strip()] == ["1234"] * 3
    assert [each.split()[-1] for each in metrics].count("-0.001234") == 3
