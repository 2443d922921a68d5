"""The export of a run: written beside its name, run by its own runtime, and only then there."""

import contextlib
import importlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from trainer.common import atomic_files
from trainer.common.errors import RunError, system_reason
from trainer.export import checking, formats
from trainer.export.examples import Examples
from trainer.export.trained import Trained


class Exported(NamedTuple):
    """An export that is there.

    Attributes:
      path: its file or folder.
      page: the page that describes it.
      examples: how many examples it was tried on.
      origin: where these are from, in words.
      difference: the largest difference of its outputs from the trainer's.
    """

    path: pathlib.Path
    page: pathlib.Path
    examples: int
    origin: str
    difference: float


def export(
    trained: Trained, examples: Examples, name: str, output: pathlib.Path, page: str, tolerance: float | None
) -> Exported:
    """Writes an export and the page that describes it, both whole or not at all.

    Args:
      trained: the run.
      examples: those that the export is tried on.
      name: of the format.
      output: the file or folder, which is not there.
      page: the text of the page.
      tolerance: by how much outputs may differ from the trainer's; None: what the precision allows.

    Raises:
      ConfigError: the run cannot be exported in this format.
      RunError: its own runtime cannot run what was written, or gives something else than the trainer; or nothing can be
        written there.
    """
    kind = formats.FORMATS[name]
    inputs, outputs = examples.of(kind.inputs, kind.outputs)
    if kind.inputs == formats.RAW:
        inputs = {trained.names[feature]: values for feature, values in inputs.items()}
    described = formats.page_of(output, kind.ending)
    with _written_whole(output) as partial:
        writer = importlib.import_module(kind.module)
        writer.write(trained, partial)
        needs = writer.needs(trained) if hasattr(writer, "needs") else ()
        difference = checking.check(name, partial, inputs, outputs, trained.precision, tolerance=tolerance, needs=needs)
        atomic_files.write_whole(formats.page_of(partial, "") if not kind.ending else described, page)
    return Exported(output, described, examples.count, examples.origin, difference)


@contextlib.contextmanager
def _written_whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `atomic_files.written_beside`, in folders that are made; raises RunError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files.written_beside(output) as partial:
            yield partial
    except OSError as error:
        raise RunError(f"--output={str(output)!r}: cannot be written: {system_reason(error)}") from error
