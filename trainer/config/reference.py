"""Makes configs/KEYS.md, a table of every key of a configuration, from the settings' declarations.

`--help=config` prints the same for a terminal. Needs no TensorFlow.
"""

import dataclasses
import difflib
import inspect
import shlex
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from trainer.combine.registry import METHODS
from trainer.common import schema, synonyms
from trainer.config.settings import Config

_HEAD = """\
# Configuration keys

Every key of a configuration, as `--config.<key>=<value>` overrides it; `<name>` stands for a name of your own. Where a
value has a `name` (or a `layer`) and arguments, the arguments are keys below it: `optimizer.learning_rate`. A place in
a list is a number, counted from 0: `model.trunk.0.units`. Durations are in steps (`500`), epochs (`'20 epochs'`) or
examples (`'50000 examples'`).
"""
_FOOT = """\
This page is made from the settings' declarations (`trainer/config/settings.py`,
`trainer/config/loss_settings.py`, `input_pipelines/configuration.py`):
`python -m trainer.config.reference > configs/KEYS.md`. `--help=config` prints the same on a terminal.
"""
_RUN = "The run"
_METHODS_PAGE = "../trainer/combine/README.md"
_A_METHOD = "the name of a method, which `--help=methods` lists, or an import path, `package.module:function`"
_WIDTH = 88
_FIRST_GIVEN = ("name", "patience", "metric")  # of the settings of a dictionary
_ALSO = 2  # the most keys to name besides the likeliest


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a configuration.

    Attributes:
      name: dotted, as one overrides it, with `<name>` for names of the user's own.
      default: its default as in Python; "required" where it must be given.
      accepts: what it accepts, in words.
      meaning: what it decides, in sentences.
      method: the method whose options it holds; None for every other key.
    """

    name: str
    default: str
    accepts: str
    meaning: str
    method: str | None = None

    @property
    def last(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclasses.dataclass(frozen=True)
class Section:
    """Keys that stand beside each other.

    Attributes:
      prefix: what their names have in common; empty for those of the run.
      about: what they are of, in sentences.
      keys: the keys, in the order of their declaration.
    """

    prefix: str
    about: str
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """Every key of a configuration, by what it belongs to; a method's options are one key."""
    return list(_sections(Config, "", {}))


def text() -> str:
    """The page in Markdown."""
    return "\n".join([_HEAD, *(_in_markdown(section) for section in sections()), _FOOT])


def for_terminal() -> str:
    """The keys as text of at most 88 columns."""
    intro = _HEAD.partition("\n\n")[2].replace("\n", " ")
    blocks = [textwrap.fill(intro, _WIDTH), *(_in_text(section) for section in sections())]
    return "\n\n".join([*blocks, "--help=methods prints the options of the combination methods."])


def meant(word: str, value: str | None, *, exactly: bool = False) -> str | None:
    """The keys that the name of a flag which does not exist probably means, as one would write the first; or None.

    Args:
      word: the name, without dashes.
      value: what was given for it; None: nothing.
      exactly: leave out keys that are merely spelled alike.
    """
    found = list(dict.fromkeys(_named(word)))
    if not found and not exactly:
        keys = {key.last: key.name for section in reversed(sections()) for key in section.keys}
        found = [keys[near] for near in difflib.get_close_matches(word, keys, n=1, cutoff=0.75)]
    if not found:
        return None
    first, *others = map(_plain, found[: _ALSO + 1])
    also = f" (also {', '.join(others)})" if others else ""
    return f"--config.{first}={shlex.quote(synonyms.value_for(word, value or '...'))}{also}"


def _plain(name: str) -> str:
    """The key below `name` that one mostly gives, where `name` takes a dictionary of settings; else `name` itself."""
    below = {key.last for section in sections() if section.prefix == name for key in section.keys}
    return next((schema.join(name, last) for last in _FIRST_GIVEN if last in below), name)


def _named(word: str) -> Iterator[str]:
    """The keys that `word` is the last part of, or a synonym of."""
    for section in sections():
        names = {key.last: key.name for key in section.keys}
        synonym = synonyms.of(word, names)
        if word in names:
            yield names[word]
        elif synonym is not None:
            yield schema.join(section.prefix, synonym)


def _sections(kind: type, prefix: str, around: dict[str, dataclasses.Field]) -> Iterator[Section]:
    """The keys of the dataclass `kind` but for those that are also `around` it, then those of what it holds."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = {name: field for name, field in fields.items() if around.get(name) is not field}
    about = " ".join(inspect.getdoc(kind).split())
    if len(own) < len(fields):
        about += f" Its other keys are those of `{prefix.partition('.')[0]}` itself."
    yield Section(prefix, about, tuple(_key(field, hints[name], prefix) for name, field in own.items()))
    for name in own:
        inner, named = _record(hints[name])
        if inner is not None and name not in METHODS:
            below = schema.join(prefix, name)
            yield from _sections(inner, f"{below}.<name>" if named else below, fields)


def _record(hint: Any) -> tuple[type | None, bool]:
    """The dataclass of what a setting holds, None where it holds none; and whether there are several, each named."""
    if dataclasses.is_dataclass(hint):
        return hint, False
    for each in typing.get_args(hint):
        inner, named = _record(each)
        if inner is not None:
            return inner, named or typing.get_origin(hint) is dict
    return None, False


def _key(field: dataclasses.Field, hint: Any, prefix: str) -> Key:
    default = field.metadata["default"]
    return Key(
        name=schema.join(prefix, schema.key_of(field.name)),
        default="required" if default is schema.REQUIRED else repr(default),
        accepts=_accepted(field, hint) if (prefix, field.name) != ("combine", "name") else _A_METHOD,
        meaning=field.metadata["meaning"],
        method=field.name if prefix == "combine" and field.name in METHODS else None,
    )


def _accepted(field: dataclasses.Field, hint: Any) -> str:
    kinds = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)
    words = schema.accepted(field.metadata["check"])
    if list in map(typing.get_origin, kinds):
        words += "; or a list of such"
    return words + ("; or None" if type(None) in kinds else "")


def _in_markdown(section: Section) -> str:
    title = f"`{section.prefix}`" if section.prefix else _RUN
    rows = "\n".join(_row(key) for key in section.keys)
    table = f"| key | default | accepts | meaning |\n| --- | --- | --- | --- |\n{rows}\n"
    return f"## {title}\n\n{textwrap.fill(section.about, 120)}\n\n{table}"


def _row(key: Key) -> str:
    meaning = key.meaning
    if key.method is not None:
        options = ", ".join(f"`{field.name}`" for field in dataclasses.fields(METHODS[key.method].options))
        meaning = f"{meaning.rstrip('.')}: {options}; see [its card]({_METHODS_PAGE}#{key.method})."
    default = key.default if key.default == "required" else f"`{key.default}`"
    return (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{key.name}`", default, key.accepts, meaning)) + " |"
    )


def _in_text(section: Section) -> str:
    lines = [f"{section.prefix or _RUN}: {section.about}"]
    lines = textwrap.wrap(lines[0], _WIDTH) + [""]
    for key in section.keys:
        lines.append(f"  {key.name} = {key.default}" if key.default != "required" else f"  {key.name}, required")
        for part in (f"{key.meaning}", f"Accepts {key.accepts}."):
            lines += textwrap.wrap(part, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(), end="")
