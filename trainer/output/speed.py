"""The speed of a run, and what its time goes into."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from trainer.output.reports import TRAIN, Report

START, STEPS, REPORTS, EVALUATION, SAVING = "start", "steps", "reports", "evaluation", "saving"
PARTS = (START, STEPS, REPORTS, EVALUATION, SAVING)
PREFIX = "speed/"
STEPS_PER_SECOND, EXAMPLES_PER_SECOND = f"{PREFIX}steps_per_second", f"{PREFIX}examples_per_second"
MEMORY, GPU_MEMORY = f"{PREFIX}memory", f"{PREFIX}gpu_memory"
_ABSURD = 1e15  # no run measures that: the file is damaged
_TAKEN, _SECONDS = f"{PREFIX}steps", f"{PREFIX}seconds/"

Values = Mapping[str, float | None]


class Stopwatch:
    """Adds up the seconds that a run spends on each of `PARTS`; all of them belong to one.

    The start ends with the first steps, which TensorFlow prepares; from then on whatever is nothing else is steps.

    Args:
      memory: gives the memory in use by name, as `lap` returns it.
      clock: gives seconds.
    """

    def __init__(self, memory: Callable[[], Mapping[str, float]] = dict, clock: Callable[[], float] = time.monotonic):
        self._memory, self._clock, self._since = memory, clock, clock()
        self._doing = [START]
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._counted: int | None = None  # number of steps taken up to which their time is accounted for

    def started(self, step: int) -> None:
        """Ends the start: the first `step` steps are taken; a second call changes nothing."""
        if self._counted is None:
            self._turn()
            self._doing[0], self._counted = STEPS, step

    @contextlib.contextmanager
    def within(self, part: str) -> Iterator[None]:
        """A context whose time is that of a part, without that of contexts within."""
        self._turn()
        self._doing.append(part)
        try:
            yield
        finally:
            self._turn()
            self._doing.pop()

    def lap(self, step: int, batch_size: int) -> Report:
        """Returns the speed since the last call, and the memory now.

        Args:
          step: number of steps taken.
          batch_size: examples of a step.

        Returns:
          A report of `speed/steps` that were taken, `speed/seconds/<part>`, `speed/steps_per_second` and
          `speed/examples_per_second` of the steps alone (None where none was taken), and the memory.
        """
        self._turn()
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        steps = 0 if self._counted is None else step - self._counted
        self._counted = None if self._counted is None else step
        rate = steps / seconds[STEPS] if steps and seconds[STEPS] > 0 else None
        values = {
            STEPS_PER_SECOND: rate,
            EXAMPLES_PER_SECOND: rate and rate * batch_size,
            _TAKEN: steps,
            **{f"{_SECONDS}{part}": round(each, 6) for part, each in seconds.items()},
            **self._memory(),
        }
        return Report(step, TRAIN, values)

    def _turn(self) -> None:
        now = self._clock()
        self._seconds[self._doing[-1]] += now - self._since
        self._since = now


class Total:
    """The sum of a run's speed reports, of all its processes.

    Args:
      laps: the reports.
      batch_size: examples of a step.

    Attributes:
      seconds: of each of `PARTS`.
      steps: number of steps that were taken beside those of the start; repeated ones count again.
      memory: the most that was seen, in bytes; None where there are no reports.
      gpu_memory: number of a GPU → the same of it.
    """

    def __init__(self, laps: Iterable[Report], batch_size: int):
        self.seconds, self.steps, self._batch_size = dict.fromkeys(PARTS, 0.0), 0, batch_size
        self.memory: float | None = None
        self.gpu_memory: dict[str, float] = {}
        for lap in laps:
            self._add(lap.values)

    @property
    def steps_per_second(self) -> float | None:
        """Of the steps alone; None where none was timed."""
        return self.steps / self.seconds[STEPS] if self.steps and self.seconds[STEPS] > 0 else None

    def lines(self) -> list[str]:
        """The total in words: the time with its shares; the rates and the memory."""
        seconds = sum(self.seconds.values())
        if not seconds:
            return []
        shares = ", ".join(f"{part} {100 * each / seconds:.0f} %" for part, each in self.seconds.items())
        return [f"{duration(seconds)}: {shares}", ", ".join(f"{text} {name}" for name, text in self._rates())]

    def markdown(self) -> str:
        """The total as a table in Markdown; empty where there is nothing."""
        seconds = sum(self.seconds.values())
        if not seconds:
            return ""
        parts = "".join(
            f"| {part} | {duration(each)} | {100 * each / seconds:.1f} % |\n" for part, each in self.seconds.items()
        )
        rates = ", ".join(f"{text} {name}" for name, text in self._rates())
        return f"| part | time | share |\n| --- | ---: | ---: |\n{parts}| all | {duration(seconds)} | |\n\n{rates}.\n"

    def _add(self, given: Values) -> None:
        values = {name: value for name, value in given.items() if value is not None and 0 <= value < _ABSURD}
        for part in PARTS:
            self.seconds[part] += values.get(f"{_SECONDS}{part}", 0.0)
        self.steps += int(values.get(_TAKEN, 0))
        if (held := values.get(MEMORY)) is not None:
            self.memory = max(held, self.memory or 0)
        for name, value in values.items():
            if name.startswith(f"{GPU_MEMORY}/"):
                number = name.removeprefix(f"{GPU_MEMORY}/")
                self.gpu_memory[number] = max(value, self.gpu_memory.get(number, 0))

    def _rates(self) -> list[tuple[str, str]]:
        """(name, value) of each rate and memory that is known."""
        found = []
        if rate := self.steps_per_second:
            found += [("steps/s", _figure(rate)), ("examples/s", _figure(rate * self._batch_size))]
        if self.memory is not None:
            found.append(("GB resident", f"{self.memory / 1e9:.3g}"))
        return found + [(f"GB of GPU {number}", f"{held / 1e9:.3g}") for number, held in self.gpu_memory.items()]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time in words: `1 h 2 min`, `2 min 5 s`, `3.2 s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
