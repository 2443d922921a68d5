"""A function that is called once a module has been imported, which need not be soon or ever."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


def call(module: str, function: Callable[[], None]) -> None:
    """Calls `function` as soon as a top-level module is imported: now, if it already is."""
    if module in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(module, function))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module where others find it, and has a function called after it is executed."""

    def __init__(self, module: str, function: Callable[[], None]):
        self.module = module
        self.function = function

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The place of the module that is waited for; None for others."""
        if fullname != self.module:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for each in others if (spec := each.find_spec(fullname, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_call(module: ModuleType) -> None:
                execute(module)
                sys.meta_path.remove(self)
                self.function()

            spec.loader.exec_module = and_call
        return spec
