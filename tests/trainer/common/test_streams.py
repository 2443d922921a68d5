"""Standard streams that outlast what a user's code does to them, and readers that go."""

import contextlib
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from trainer.common import streams
from trainer.output import terminal
from trainer.output.reports import VALIDATION, Report


@pytest.fixture
def pipe():
    """The reading and the writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(end)


def _output(descriptor: int, encoding: str = "utf-8") -> streams.Output:
    return streams.Output(descriptor, io.TextIOWrapper(io.BytesIO(), encoding=encoding))


def test_closing_it_or_its_descriptor_closes_nothing(pipe):
    output = _output(pipe[1])
    os.close(pipe[1])
    output.close()
    print("é\udcff", file=output, flush=True)
    assert os.read(pipe[0], 99).decode() == "é\\udcff\n"
    assert output.failure is None


def test_any_text_on_a_terminal_that_knows_only_ascii(pipe):
    output = _output(pipe[1], "ascii")
    console = Console(file=output, width=80, highlight=False)
    report = Report(3, VALIDATION, {"loss/a×b": 1.0, "a×b/mäß": 0.5})
    terminal.print_table(report, {"a×b": "→"}, title="Validation of größe", console=console)
    with console.status("…"):
        console.print("28 × 28")
    shown = os.read(pipe[0], 9999)
    assert shown.isascii()
    assert b"28 \\xd7 28" in shown
    assert b"| " in shown


def test_what_nobody_reads_is_discarded(pipe):
    output = _output(pipe[1])
    os.close(pipe[0])
    for _ in range(3):
        assert output.write("text") == 4
        output.flush()
    assert output.is_unread


def test_a_closed_descriptor_is_occupied():
    """Else the next file that is opened gets the number of the terminal."""
    code = (
        "import os; from trainer.common import streams; os.close(0); os.close(2); streams.occupy(); "
        "assert os.open('/dev/null', os.O_RDONLY) > 2; os.write(2, b'lost'); print('shown')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "shown\n", "")
