"""Every format of an export by name; needs no TensorFlow."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping

from trainer.common.errors import ConfigError, unknown

RAW, PREPARED = "raw", "prepared"
HEADS, LOSSES = "heads", "losses"
_FIELD = "--format"


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      module: import path of what writes it: `write(trained, path)`, and `calls(trained, name)`, the lines of Markdown
        that say how it is called.
      ending: of the file's name; "" for a folder.
      inputs: `RAW`, features as the source gives them, or `PREPARED`, what the model takes.
      outputs: `HEADS`, what the model gives, or `LOSSES`, what each loss makes of it.
      packages: packages that must be there beside TensorFlow.
      extra: the extra of this project that installs them.
      single: whether it computes in float32, whatever the run's precision.
    """

    module: str
    ending: str
    inputs: str
    outputs: str
    packages: tuple[str, ...] = ()
    extra: str | None = None
    single: bool = False


FORMATS: Mapping[str, Format] = {
    "keras": Format("trainer.export.keras_file", ".keras", PREPARED, HEADS),
    "saved_model": Format("trainer.export.saved_model", "", RAW, LOSSES),
    "tflite": Format("trainer.export.tflite_file", ".tflite", PREPARED, LOSSES, single=True),
    "onnx": Format("trainer.export.onnx_file", ".onnx", PREPARED, LOSSES, ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
}


def check(name: str) -> Format:
    """The format of this name; raises ConfigError where there is none, or a package that it needs is missing."""
    if name not in FORMATS:
        raise unknown(_FIELD, name, "format", FORMATS)
    found = FORMATS[name]
    for package in found.packages:
        if importlib.util.find_spec(package) is None:
            reason = f"needs the package {package}: pip install 'multi-head-trainer[{found.extra}]'"
            raise ConfigError(_FIELD, name, reason)
    return found


def page_of(path: pathlib.Path, ending: str) -> pathlib.Path:
    """The page that describes an export at `path`: in a folder `signature.md`, beside a file its name with `.md`."""
    return path / "signature.md" if not ending else path.with_name(f"{path.name}.md")


def check_output(path: pathlib.Path, name: str) -> None:
    """Raises ConfigError for a path at which an export of this format cannot be written, or would replace something."""
    ending = FORMATS[name].ending
    if ending and path.suffix != ending:
        raise ConfigError("--output", str(path), f"must be the name of a file that ends in {ending}")
    for each in (path,) if not ending else (path, page_of(path, ending)):
        if each.exists() or each.is_symlink():
            raise ConfigError("--output", str(each), "exists already; remove it or give another name")
