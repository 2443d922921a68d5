"""The page beside an export: what it takes, what it gives, and how it is called."""

import importlib
from collections.abc import Iterable, Sequence

from input_pipelines.raw_features import RawFeature
from input_pipelines.sources.source import ABSENT_INTEGER
from trainer.export import formats
from trainer.export.examples import Examples
from trainer.export.trained import Trained

_CLASSES = 20  # that are listed in a cell


def text(trained: Trained, examples: Examples, name: str, output: str, command: str) -> str:
    """Returns the page in Markdown.

    Args:
      trained: the run.
      examples: those that the export was tried on.
      name: of the format.
      output: the export's path as it was given.
      command: what was run to make it.
    """
    kind = formats.FORMATS[name]
    calls = importlib.import_module(kind.module).calls(trained, output)
    lines = [
        f"# {output}",
        "",
        f"The run `{trained.name}` after {trained.step} steps ({trained.precision}), in the format `{name}`, made by",
        "",
        *_block("bash" if command.startswith("python ") else "python", [command]),
        "",
        f"It was loaded and run in a process of its own on {examples.count} examples ({examples.origin}), and gave "
        "what the trainer gives.",
        "",
        "## Inputs",
        "",
        "The first axis of every input is that of the examples.",
        "",
        *(_of_features(trained) if kind.inputs == formats.RAW else _of_inputs(trained, kind.single)),
        "",
        "## Outputs",
        "",
        *(
            _of_losses(trained, kind.single)
            if kind.outputs == formats.LOSSES and trained.outputs
            else _of_heads(examples, kind.single)
        ),
        "",
        "## Calls",
        "",
        *calls,
    ]
    return "\n".join(lines) + "\n"


def _of_features(trained: Trained) -> list[str]:
    names = trained.names
    rows = [(f"`{names[f]}`", *_kind(each), _words(f, names[f], each)) for f, each in trained.features.items()]
    return _table(("input", "type", "shape of an example", ""), rows)


def _kind(feature: RawFeature) -> tuple[str, str]:
    if feature.picture is not None:
        height, width, channels = feature.picture.spec.shape.as_list()
        sides = "of any size" if height is None or width is None else f"{height} x {width}"
        bits = f"{8 * feature.picture.spec.dtype.size} bits"
        return "bytes", f"one picture, PNG or JPEG, {sides}, read with {channels} channels of {bits}"
    dtype = "text" if feature.spec.dtype.name == "string" else feature.spec.dtype.name
    return dtype, _shape(feature.spec.shape.as_list())


def _words(feature: str, name: str, each: RawFeature) -> str:
    """A feature's own name and what stands for an absent one, where there is something to say."""
    own = [] if feature == name else [f"`{feature}` of the source"]
    if each.absent is not None:
        shown = {b"": "empty text", ABSENT_INTEGER: f"{ABSENT_INTEGER}"}.get(each.absent, "NaN")
        own.append(f"absent: {shown}")
    return "; ".join(own)


def _of_inputs(trained: Trained, single: bool) -> list[str]:
    rows = [
        (f"`{name}`", _type(spec.dtype.name, single), _shape(spec.shape.as_list()[1:]))
        for name, spec in trained.inputs.items()
    ]
    return [
        "Prepared numbers, as the run's preparation makes them of its data.",
        "",
        *_table(("input", "type", "shape of an example"), rows),
    ]


def _of_losses(trained: Trained, single: bool) -> list[str]:
    rows = [
        (
            f"`{each.name}`",
            _type(each.dtype, single),
            _shape(each.shape),
            each.meaning + _listed(each.classes or each.columns, each.name),
        )
        for each in trained.outputs
    ]
    return _table(("output", "type", "shape of an example", "is"), rows)


def _listed(names: Sequence[str], output: str) -> str:
    """The names of classes or columns, in order."""
    own = [name.removeprefix(f"{output}/") for name in names]
    if own in ([], [output]):
        return ""
    more = f" and {len(own) - _CLASSES} more" if len(own) > _CLASSES else ""
    return f": {', '.join(own[:_CLASSES])}{more}"


def _of_heads(examples: Examples, single: bool) -> list[str]:
    rows = [
        (f"`{name}`", _type(values.dtype.name, single), _shape(values.shape[1:]))
        for name, values in examples.heads.items()
    ]
    return ["What the model's heads give.", "", *_table(("head", "type", "shape of an example"), rows)]


def _type(dtype: str, single: bool) -> str:
    return "float32" if single and "float" in dtype else dtype


def _shape(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape) or "one value"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]


def _block(language: str, lines: Sequence[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]
