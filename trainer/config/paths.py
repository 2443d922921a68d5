"""Paths by which a loss names what it reads: `heads.mu`, `targets.digit`, `inputs.image`, `layers.code`."""

from typing import Any, NamedTuple

from trainer.common import schema
from trainer.common.errors import ConfigError

HEADS, TARGETS, INPUTS, LAYERS = KINDS = ("heads", "targets", "inputs", "layers")
DERIVATIVE = "derivative"  # the argument by which a function asks for what differentiates
MODEL = "model"  # the outermost of all layers
_ALLOWED = (
    "must be heads.<name>, targets.<name>, inputs.<name> (inputs alone where they have no names) or layers.<name>"
)


class Path(NamedTuple):
    """A place to read: a head, a target, an input or the output of a layer.

    Attributes:
      kind: one of `KINDS`.
      name: its name; empty for the input of a model that has one without a name.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}" if self.name else self.kind


def parse(text: str) -> Path:
    """The path that a text checked by `check` is."""
    kind, _, name = text.partition(".")
    return Path(kind, name)


def check(value: Any, field: str) -> dict[str, str]:
    """`{argument: path}`, at least one."""
    if not isinstance(value, dict) or not value:
        raise ConfigError(field, value, "must be a dictionary from arguments of the function to what they are given")
    for key, text in schema.keyword_arguments(value, field).items():
        at = schema.join(field, key)
        if key == DERIVATIVE:
            raise ConfigError(at, text, "is an argument by which a function asks for derivatives; it is given those")
        kind, dot, name = text.partition(".") if isinstance(text, str) else ("", "", "")
        is_whole = kind == INPUTS and not dot
        if kind not in KINDS or not (name or is_whole):
            raise ConfigError(at, text, _ALLOWED)
    return dict(value)
