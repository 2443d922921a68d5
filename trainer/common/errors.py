"""Errors for people: one line that names the field, the value and what is allowed."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from trainer.common import synonyms

# Lines that Keras puts before the reason.
_WRAPPERS = ("Exception encountered when calling", "in user code:")
_CONSEQUENCES = ("CANCELLED", "ABORTED", "UNAVAILABLE")  # of an error elsewhere
_LONGEST_LIST, _LISTED = 300, 12  # all names where they take at most 300 characters, else the nearest 12


class ConfigError(ValueError):
    """Something the user gave cannot be used; the command line prints it as one line and exits with code 2.

    Attributes:
      field: dotted name of what is wrong, for example `losses.digit.loss` or `--strategy`.
      value: what was given; `ConfigError.ABSENT` leaves it out of the message.
      allowed: what would be accepted, or why this is not.
    """

    ABSENT = object()

    def __init__(self, field: str, value: object, allowed: str):
        self.field = field
        self.value = value
        self.allowed = " ".join(allowed.split())
        where = field if len(field) <= 160 else f"{field[:77]}...{field[-80:]}"
        given = "" if value is self.ABSENT else f"={_short(value)}"
        super().__init__(printable(f"{where}{given}: {self.allowed}"))


class NotPreparedError(ConfigError):
    """A dataset must be downloaded and prepared first; the command line says how."""


class UntrustedError(ConfigError):
    """A file that somebody else wrote names code that is not trusted; the command line says how to trust it.

    Attributes:
      packages: the packages to trust, those that are already among them.
    """

    def __init__(self, field: str, value: object, allowed: str, packages: Sequence[str]):
        super().__init__(field, value, allowed)
        self.packages = tuple(packages)


class RunError(RuntimeError):
    """A run cannot continue; the command line prints it as one line and exits with code 1. The workdir is kept."""


class StoppedError(RunError):
    """A signal asked the process to stop; the run is saved.

    Attributes:
      code: the process's exit code.
    """

    def __init__(self, code: int):
        self.code = code
        super().__init__("stopped by a signal")


class LostWorkerError(RunError):
    """Another worker is gone, so that this one cannot continue."""


class NonFiniteError(RunError):
    """A loss or a gradient became NaN or infinite.

    In training it is raised before the step that met it changed any trained variable; of the final evaluation, before
    anything is saved.

    Attributes:
      step: 1-based number of the offending step.
      losses: names of the losses whose value or gradient is not finite.
      split: where it was met, "train" or "validation".
      method: a combination method of the user's own, where the values are finite and it may be to blame.
    """

    def __init__(self, step: int, losses: list[str], *, split: str = "train", method: str | None = None):
        self.step = step
        self.losses = losses
        self.split = split
        self.method = method
        names = f"{'losses' if len(losses) > 1 else 'loss'} {', '.join(repr(name) for name in losses)}"
        advice = "a lower learning rate or clip_norm often helps"
        if method is not None:
            advice = "it must give finite numbers, also where losses that take no part are zeros"
            what = f"the gradient of {names}, or what combine={method} makes of it, became non-finite"
            what += "; this step changed no variable"
        elif split == "train":
            what = f"{names} became non-finite (value or gradient); this step changed no variable"
        else:
            what = f"{names} of the {split} split became non-finite"
        super().__init__(f"step {step}: {what}; {advice}")


class LogarithmError(RunError):
    """A loss became too small for a combination that takes its logarithm or divides by it.

    Attributes:
      step: 1-based number of the offending step.
      losses: loss name → its value in that step.
    """

    def __init__(self, step: int, losses: dict[str, float], bounds: dict[str, float], method: str):
        self.step = step
        self.losses = losses
        names = ", ".join(f"{name!r} is {value:.6g}" for name, value in losses.items())
        least = ", ".join(f"{bound:g}" for bound in dict.fromkeys(bounds[name] for name in losses))
        super().__init__(
            f"step {step}: loss {names}, but combine={method} needs losses above {least} (their logarithm or inverse)"
        )


def unknown(field: str, value: object, kind: str, allowed: Iterable[str], *, name: str | None = None) -> ConfigError:
    """A ConfigError for a name (`value`, or `name` where given) that is not among `allowed`, suggesting the nearest."""
    names, given = list(allowed), text_of(value if name is None else name)[:80]
    near = synonyms.meant(given, names)
    hint = "" if near is None else f"did you mean {near!r}{_example(value, name, near, names)}? "
    return ConfigError(field, value, f"unknown {kind}; {hint}allowed: {listed(names, given)}")


def _example(value: object, name: str | None, near: str, names: Iterable[str]) -> str:
    """The value as the setting `near` takes it, where the one given for the key `name` must be written otherwise."""
    if name is None or synonyms.of(name, names) != near or not isinstance(value, int | float | str):
        return ""
    written = synonyms.value_for(name, str(value))
    return "" if written == str(value) else f" ({written!r})"


def listed(names: Iterable[str], given: str) -> str:
    """The names, or of many those nearest to `given`, in a line."""
    names = sorted(set(names))
    line = ", ".join(names) or "none"
    if len(line) <= _LONGEST_LIST or len(names) <= _LISTED:
        return line
    nearest = difflib.get_close_matches(given, names, n=_LISTED, cutoff=0)
    return f"{', '.join(sorted(nearest))} and {len(names) - len(nearest)} more"


def text_of(value: object, conversion: Callable[[object], str] = str) -> str:
    """Returns `str` or another conversion of any value, the user's own with an error in their `__str__` included."""
    try:
        return conversion(value)
    except Exception as error:  # also of a list that is nested too deeply, or a number of too many digits
        return f"<{type(value).__name__} without a text: {type(error).__name__}>"


def first_line(error: BaseException) -> str:
    """The first meaningful line of an exception's message (its type where it has none)."""
    lines = [_plain_text(line) for line in text_of(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_WRAPPERS)]
    return _cut(lines[0], 300) if lines else type(error).__name__


def with_notes(error: BaseException) -> str:
    """Returns an error's message with those of its notes, in one line."""
    return " ".join("; also: ".join([text_of(error), *getattr(error, "__notes__", ())]).split())


def system_reason(error: BaseException) -> str:
    """Returns the system's reason for an OSError; the first line of any other exception."""
    return getattr(error, "strerror", None) or first_line(error)


def reason_of(error: BaseException) -> str:
    """The line of an error from within a graph that gives its reason: the last that is neither a place nor a node."""
    places = ("[[", "File ", "Detected at", "Graph execution error", "Call arguments", "The error could be")
    places += ("Arguments received", "•")  # what Keras adds below
    places += ("tf2xla conversion failed", "The op is created at")  # and XLA
    lines = [_plain_text(line) for line in _of_one_root(text_of(error)) if not line.strip().startswith(places)]
    reasons = [line for line in lines if line]
    return _cut(_asserted(reasons[-1]), 300) if reasons else first_line(error)


def _of_one_root(text: str) -> list[str]:
    """The lines of a message; of one that lists the errors of several replicas, those of the first with a reason.

    Where one replica fails, others may be cancelled, which says nothing.
    """
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if line.endswith("root error(s) found.")), None)
    if first is None:
        return lines
    roots: list[tuple[str, list[str]]] = []
    for line in lines[first + 1 :]:
        if start := re.match(r"\s+\(\d+\) ([A-Z_]+): (.*)", line):
            roots.append((start[1], [start[2]]))
        elif re.match(r"\d+ successful operations\.", line):
            break
        elif roots:
            roots[-1][1].append(line)
    reasons = [own for code, own in roots if code not in _CONSEQUENCES] or [own for _, own in roots]
    return reasons[0] if reasons else lines


def _asserted(line: str) -> str:
    """Returns the data of a failed `tf.debugging.Assert`, without the brackets and quotation marks around them.

    A line that reports no failed assertion is returned as it is.
    """
    before, failed, data = line.rpartition("assertion failed: ")
    if not failed:
        return line
    return " ".join(re.findall(r"\[(.*?)\](?= \[|$)", data)).replace("\\'", "'") or before


def _plain_text(line: str) -> str:
    """`line` without colours and TensorFlow's names of graph nodes."""
    return printable(re.sub(r"\x1b\[[0-9;]*m|\{\{.*?\}\}|\[Op:.*|Name: <unknown>, ", "", line).strip())


def printable(text: str) -> str:
    """Returns `text` with whatever a terminal could not show, or would obey, written as in Python."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _short(value: object) -> str:
    text = " ".join(text_of(value, repr).split())
    return text if len(text) <= 120 else f"{text[:40]}...{text[-77:]}"  # the end of a path says which file


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
