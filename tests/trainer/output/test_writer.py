"""The thread that writes: order, failures, and that it waits neither for nothing nor for ever."""

import pathlib
import threading

import pytest

from trainer.common.errors import NonFiniteError, RunError, with_notes
from trainer.output.writer import Writer

WAIT_SECONDS = 30
FULL = pathlib.Path("/dev/full")  # every write to it fails as on a full disk

needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("writer")]


def test_everything_is_called_in_order_on_another_thread():
    calls, free = [], threading.Event()
    with Writer() as writer:
        first = writer.submit(free.wait, WAIT_SECONDS)
        for number in range(5):
            writer.submit(lambda number: calls.append((number, threading.current_thread())), number)
        assert not first.done()
        assert calls == []
        free.set()
        writer.wait()
        assert [number for number, _ in calls] == [0, 1, 2, 3, 4]
        writer.submit(calls.append, (5, None))
    assert len(calls) == 6  # without a `wait` too
    assert threading.current_thread() not in {thread for _, thread in calls}
    assert not _threads()


def test_too_much_at_once_waits():
    calls, free = [], threading.Event()
    with Writer() as writer:
        writer.submit(free.wait, WAIT_SECONDS)
        many = threading.Thread(target=lambda: [writer.submit(calls.append, number) for number in range(500)])
        many.start()
        many.join(0.2)
        assert many.is_alive()
        free.set()
        many.join(WAIT_SECONDS)
    assert calls == list(range(500))


@needs_full
@pytest.mark.parametrize("ask", ["submit", "wait", "end"])
def test_a_failure_is_raised_and_nothing_is_called_after_it(ask):
    calls, free = [], threading.Event()

    def use() -> None:
        with Writer() as writer:
            writer.submit(free.wait, WAIT_SECONDS)
            failing = writer.submit(FULL.write_text, "text")
            writer.submit(calls.append, 1)
            free.set()
            if ask == "submit":
                failing.result(WAIT_SECONDS)
                writer.submit(calls.append, 2)
            elif ask == "wait":
                writer.wait()

    with pytest.raises(RunError, match=r"^cannot write.*: No space left on device$"):
        use()
    assert calls == []
    assert not _threads()


@needs_full
def test_a_failure_beside_another_error_is_told_too():
    def use() -> None:
        with Writer() as writer:
            writer.submit(FULL.write_text, "text")
            raise NonFiniteError(3, ["label"])

    with pytest.raises(NonFiniteError) as raised:
        use()
    line = with_notes(raised.value)
    assert line.startswith("step 3: loss 'label' became non-finite")
    assert line.endswith("; also: cannot write: No space left on device")
    assert "\n" not in line
