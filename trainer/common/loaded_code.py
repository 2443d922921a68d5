"""The code that a process has loaded: digests of modules and versions of installed packages, to compare processes.

What an installer put into a folder of packages goes by its version, and the standard library by Python's. Every other
module, also one of an editable installation, goes by the SHA-256 of its file, under the module's name: in whatever
folder it lies. The project's own modules do so even where they are installed. What has no file cannot be compared: a
module that was made in memory, or a folder without an `__init__.py`.
"""

import contextlib
import functools
import hashlib
import importlib.machinery
import os
import pathlib
import platform
import site
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple

_PROJECT = ("trainer", "input_pipelines", "configs", "launch")
_ALWAYS = ("tensorflow", "keras", "numpy")  # whichever distribution brings them: there are several of TensorFlow's
_CUSTOMIZATIONS = ("sitecustomize", "usercustomize")  # run when Python starts
# What TensorFlow makes of functions that it traces, and multiprocessing's other name of __main__.
_MADE = ("__autograph_generated_file", "__mp_main__")
_FOLDERS_OF_PACKAGES = ("site-packages", "dist-packages")
_LISTED = 3  # of each kind of difference


class LoadedCode(NamedTuple):
    """The code of a process.

    Attributes:
      versions: Python's, and those of the installed distributions of which a module is loaded, by their names.
      digests: module → SHA-256 of its file, in hexadecimal digits.
      files: module → its file.
    """

    versions: dict[str, str]
    digests: dict[str, str]
    files: dict[str, str]


def loaded(named: Iterable[str] = ()) -> LoadedCode:
    """Returns the code that this process has loaded.

    Args:
      named: further modules that go by their files, where they have one; they are found, and not imported.
    """
    folders, standard_library = _folders_of_packages(), _standard_library()
    installed: dict[str, set[str]] = defaultdict(set)
    files: dict[str, str] = {}
    for name, file in _modules(named):
        inside = _inside(file, folders)
        if inside is None:
            if _inside(file, standard_library) is None:
                files[name] = file
            continue
        package = inside.split(os.sep)[0].partition(".")[0]
        installed[package].add(inside)
        # A module that belongs to no distribution is the user's, unless it sets up a virtual environment.
        loose = package not in _distributions() and not name.startswith("_") and name not in _CUSTOMIZATIONS
        if loose or _of_project(name):
            files[name] = file
    digests = {name: digest for name, file in sorted(files.items()) if (digest := _digest(file))}
    return LoadedCode(_versions(installed), digests, files)


def differences(there: Mapping[str, Mapping[str, str]], here: LoadedCode, *, of_both_only: bool = False) -> list[str]:
    """Returns a line for each difference between two processes, of many a few and their number.

    A module that both have loaded must be the same in both, and a distribution of which both have loaded something. One
    alone may load what writes files or shows progress, but no module of the user's: that may replace another one
    where it can be imported.

    Args:
      there: `versions` and `digests` of the other process.
      here: this process's code.
      of_both_only: say nothing of modules that one alone has loaded.
    """
    versions, digests = there["versions"], there["digests"]
    modules = []
    for name in sorted({*digests, *here.digests}, key=lambda name: (_of_project(name), name)):
        file = f" ({here.files[name]})" if name in here.files else ""
        if name in digests and name in here.digests:
            if digests[name] != here.digests[name]:
                modules.append(f"module {name}{file} is not the same")
        elif not (of_both_only or _of_project(name)):
            where = "there and not here" if name in digests else "here and not there"
            modules.append(f"module {name}{file} is loaded {where}")
    others = [
        f"{name} is {versions[name]} there and {version} here"
        for name, version in here.versions.items()
        if versions.get(name, version) != version
    ]
    return [*_cut(modules, "modules"), *_cut(others, "versions")]


def _modules(named: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and files of all modules that are loaded, and of those that are named."""
    scripts = sysconfig.get_path("scripts")
    for name, module in list(sys.modules.items()):
        attributes = _attributes(module)
        file, spec = attributes.get("__file__"), attributes.get("__spec__")
        if not isinstance(file, str) or name.startswith(_MADE):
            continue
        if name == "__main__" and os.path.dirname(file) == scripts:
            continue  # the script of a command names the folder that it is installed in
        if name == "__main__" and isinstance(spec, importlib.machinery.ModuleSpec):
            name = spec.name  # that of `python -m`
        yield name, file
    for name in named:
        if name not in sys.modules and (file := _found(name)):
            yield name, file


def _attributes(module: Any) -> Mapping[str, Any]:
    """A module's attributes, without those that it would import when it is asked."""
    try:
        attributes = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _found(name: str) -> str | None:
    """The file that an import of `name` would run; None where there is none."""
    folders, spec = None, None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        try:
            spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), folders)
        except (OSError, ValueError, ImportError):
            return None
        if spec is None:
            return None
        folders = spec.submodule_search_locations
        if folders is None and count < len(parts):
            return None
    return spec.origin if spec is not None and spec.has_location else None


@functools.cache
def _digest(file: str) -> str | None:
    """SHA-256 of a file, once for the life of the process; None for one that cannot be read."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # within a zip archive
        return None


def _inside(file: str, folders: Iterable[str]) -> str | None:
    """The path of a file within the first of these folders that holds it."""
    return next((file[len(folder) + 1 :] for folder in folders if file.startswith(folder + os.sep)), None)


def _folders_of_packages() -> tuple[str, ...]:
    """Folders into which installers put packages, the longest paths first."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    folders |= {site.getusersitepackages()}
    folders |= {folder for folder in sys.path if pathlib.Path(folder).name in _FOLDERS_OF_PACKAGES}
    return _with_real(folders)


def _standard_library() -> tuple[str, ...]:
    return _with_real({sysconfig.get_path("stdlib"), os.path.dirname(os.__file__)})


def _with_real(folders: Iterable[str]) -> tuple[str, ...]:
    """The folders, also by the paths to which symbolic links lead, the longest first."""
    every = {path.rstrip(os.sep) for folder in folders for path in (folder, os.path.realpath(folder))}
    return tuple(sorted(every, key=len, reverse=True))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Folder or file in a folder of packages, without its suffix → the distributions that it belongs to."""
    return {name: [each for each in set(found) if each] for name, found in metadata.packages_distributions().items()}


def _versions(installed: Mapping[str, set[str]]) -> dict[str, str]:
    """Versions of the distributions of loaded modules.

    Args:
      installed: folder or file in a folder of packages, without its suffix → the loaded files in it.
    """
    found = {}
    for package, files in installed.items():
        names = _distributions().get(package, [])
        for name in names:
            with contextlib.suppress(metadata.PackageNotFoundError):
                distribution = metadata.distribution(name)
                # Several share a namespace such as `google`, and of some nothing need be loaded.
                if len(names) == 1 or not files.isdisjoint(map(str, distribution.files or ())):
                    found[name] = str(distribution.version)
    for name in _ALWAYS:
        if version := _attributes(sys.modules.get(name)).get("__version__"):
            found.setdefault(name, str(version))
    return {"Python": platform.python_version(), **dict(sorted(found.items()))}


def _of_project(name: str) -> bool:
    return name.partition(".")[0] in _PROJECT


def _cut(lines: list[str], kind: str) -> list[str]:
    rest = len(lines) - _LISTED
    return lines if rest <= 1 else [*lines[:_LISTED], f"{rest} more {kind} differ"]
