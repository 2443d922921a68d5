"""The instructions of launch/kubernetes/Dockerfile; those of COPY are carried out without Docker."""

import pathlib
import re
import shutil


def instructions(root: pathlib.Path) -> list[tuple[str, str]]:
    """The Dockerfile's instructions: their names and what follows."""
    text = re.sub(r"\\\n", " ", (root / "launch" / "kubernetes" / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def every(root: pathlib.Path, name: str) -> list[str]:
    """The arguments of each instruction of this name."""
    return [rest for each, rest in instructions(root) if each == name]


def variables(root: pathlib.Path) -> dict[str, str]:
    """Environment variables that the image sets."""
    return dict(pair.split("=", 1) for line in every(root, "ENV") for pair in line.split())


def copy(root: pathlib.Path, into: pathlib.Path) -> list[str]:
    """Copies what COPY names to below `into`.

    Returns:
      The files' paths in the repository.
    """
    copied = []
    (working,) = every(root, "WORKDIR")
    for line in every(root, "COPY"):
        *sources, target = line.replace("${LOCK}", "requirements.lock").split()
        place = into / str(pathlib.PurePosixPath(working, target)).lstrip("/")
        for source in sources:
            found = list(root.glob(source))
            assert found, f"COPY {source}: is not in the repository"
            for path in found:
                copied += _copy(path, place / path.name if target.endswith("/") and path.is_file() else place)
    return [str(path.relative_to(root)) for path in copied]


def _copy(path: pathlib.Path, target: pathlib.Path) -> list[pathlib.Path]:
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        return [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    return [path]
