"""Errors for people: one line that names the field, the value and what is allowed."""

import difflib
from collections.abc import Iterable


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
        super().__init__(
            f"{field}: {self.allowed}" if value is self.ABSENT else f"{field}={_short(value)}: {self.allowed}"
        )


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became NaN or infinite; raised before the step that met it changed any trained variable.

    Attributes:
      step: 1-based number of the offending step.
      losses: names of the losses whose value or gradient is not finite.
    """

    def __init__(self, step: int, losses: list[str]):
        self.step = step
        self.losses = losses
        names = ", ".join(repr(name) for name in losses)
        plural = "losses" if len(losses) > 1 else "loss"
        super().__init__(
            f"step {step}: {plural} {names} became non-finite (value or gradient); "
            "no variable was changed by this step. A lower learning rate or clip_norm often helps"
        )


def unknown(field: str, value: object, kind: str, allowed: Iterable[str], *, name: str | None = None) -> ConfigError:
    """A ConfigError for a name (`value`, or `name` where given) that is not among `allowed`, suggesting the nearest."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value if name is None else name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(field, value, f"unknown {kind}; {hint}allowed: {', '.join(names) or 'none'}")


def first_line(error: BaseException) -> str:
    """The first meaningful line of an exception's message (its type where it has none)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
