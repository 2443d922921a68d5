"""Imports go down the floors of the house only, and what must answer at once loads no TensorFlow."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
# From the roof down. Units of one floor do not import each other.
FLOORS = (
    ("trainer.__main__", "trainer.main"),
    ("trainer.compare",),
    ("trainer.api",),
    ("trainer.describe", "trainer.predict", "trainer.export"),
    ("trainer.cost", "trainer.selfcheck"),
    ("trainer.run", "trainer.keras_model"),
    ("trainer.evaluation", "trainer.output"),
    ("trainer.step",),
    ("trainer.models",),
    ("trainer.components", "launch"),
    ("trainer.command_line",),
    ("trainer.config",),
    ("trainer.combine", "trainer.distributed", "input_pipelines"),
    ("trainer.gradients",),
    ("trainer.common",),
)
FLOOR = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}
# Only these are imported by the modules that a prefix names (beside what lies within their own unit).
ONLY = {
    "input_pipelines": ("trainer.common",),
    "launch": ("trainer.common", "trainer.command_line"),
    "configs": ("input_pipelines.examples", "trainer.models", "configs"),
    "trainer.gradients": ("trainer.common",),
    "trainer.combine.solvers": ("trainer.combine.problem", "trainer.combine.lazy_tensorflow"),
    "trainer.combine.methods": (
        "trainer.combine.problem",
        "trainer.combine.solvers",
        "trainer.combine.entry",  # what their entries in the registry are made of
        "trainer.common.schema",  # and their options
        "trainer.combine.lazy_tensorflow",
        "trainer.combine.random_numbers",
    ),
}
WITHOUT_TENSORFLOW = (
    "trainer",
    "trainer.__main__",
    "trainer.common",
    "trainer.command_line",
    "trainer.config",
    "trainer.combine",
    "trainer.combine.registry",
    "trainer.combine.cards",
    "trainer.compare.results_files",
    "trainer.distributed.cluster",
    "trainer.distributed.introductions",
    "trainer.distributed.rendezvous",
    "trainer.distributed.signals",
    "trainer.distributed.watchdog",
    "trainer.predict.arguments",
    "trainer.output.page.run",
    "trainer.output.records",
    "trainer.compare.comparing",
    "trainer.cost.machine",
    "trainer.cost.passes",
    "trainer.cost.steps",
    "trainer.cost.tables",
    "trainer.cost.workload",
    "trainer.export.formats",
    "input_pipelines.configuration",
    "input_pipelines.registry",
    "launch.workers",
)
# `strategy.run` is called in these.
RUN_ON_REPLICAS = {
    "trainer.distributed.drift",
    "trainer.distributed.workers",
    "trainer.evaluation.evaluator",
    "trainer.keras_model.evaluation",
    "trainer.predict.predictor",
    "trainer.selfcheck.collectives",
    "trainer.step.observation",
    "trainer.step.replicas",
    "trainer.step.variable_average",
}
LONGEST_MODULE, LONGEST_MEDIAN, LONGEST_FUNCTION, FOLDERS = 300, 110, 60, 2
PACKAGES = ("trainer", "input_pipelines", "configs", "launch")
# Everyone else asks the plan which setting needs what; methods say for themselves what they look at.
JUDGE = "trainer.config.plan"


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the packages, by its dotted name."""
    return {name: tree for package in PACKAGES for name, tree in _parsed(package).items()}


def _parsed(package: str) -> dict[str, ast.Module]:
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / package).rglob("*.py")}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in paths.items()}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Returns module → the modules of the packages that it imports, anywhere within it."""
    found: dict[str, set[str]] = {}
    for name, tree in modules().items():
        own = found[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                own |= {alias.name for alias in node.names} & modules().keys()
            elif isinstance(node, ast.ImportFrom):
                full = (f"{node.module}.{alias.name}" for alias in node.names)
                own |= {each if each in modules() else node.module for each in full} & modules().keys()
    return found


def _unit(module: str) -> str | None:
    return next((unit for unit in FLOOR if module == unit or module.startswith(f"{unit}.")), None)


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def test_every_module_has_a_floor():
    homeless = {name for name in modules() if _unit(name) is None and not _within(name, ("configs",))}
    assert homeless == {"trainer"}


def test_imports_go_down():
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if (own := _unit(module)) and (its := _unit(other)) and own != its and FLOOR[own] >= FLOOR[its]
    ]
    assert not wrong


def test_no_module_imports_the_public_names():
    """They are for users: a module imports from where a name is defined. The command alone reads the version."""
    assert {module for module, others in imports().items() if "trainer" in others} == {"trainer.__main__"}


def test_no_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in imports()[module] - {module}:
                visit(other, (*path, module))
            done.add(module)

    for module in imports():
        visit(module, ())


@pytest.mark.parametrize("prefix", ONLY)
def test_a_package_imports_only(prefix):
    for module, others in imports().items():
        if _within(module, (prefix,)):
            wrong = {other for other in others if not _within(other, (*ONLY[prefix], prefix))}
            assert not wrong, module


def test_ways_to_compute_know_nothing_of_one_another():
    ways = {f"trainer.step.{name}" for name in ("per_loss", "fused", "features", "alternating")}
    for way in ways:
        assert not (imports()[way] & ways), way


def test_few_files_run_something_on_replicas():
    calling = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "run" and "strategy" in ast.unparse(node.value)
    }
    assert calling == RUN_ON_REPLICAS


def test_common_needs_the_standard_library_alone():
    for name, tree in modules().items():
        if _within(name, ("trainer.common",)):
            for node in ast.walk(tree):
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for each in names:
                    assert each.split(".")[0] in sys.stdlib_module_names or _within(each, ("trainer.common",)), name


def _judgements(tree: ast.Module) -> list[str]:
    """Finds expressions that only the plan may have: those that judge by `reduction`, `gradients` or `looks_at`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name in ("LooksAt", "ONE_PASS")]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            if (
                node.attr in ("looks_at", "LooksAt", "ONE_PASS")
                or node.attr == "reduction"
                and owner.lower().endswith(("config", "configuration"))
            ):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Compare | ast.MatchValue):
            inside = list(ast.walk(node))
            values = {each.value for each in inside if isinstance(each, ast.Constant)}
            names = {each.attr for each in inside if isinstance(each, ast.Attribute)}
            if values & {"fused", "features"} or "reduction" in names:
                found.append(ast.unparse(node))
    return found


def test_the_plan_alone_judges():
    """`reduction` and what a method looks at are compared where the plan is made, and nowhere else."""
    assert _judgements(modules()[JUDGE])
    for name, tree in modules().items():
        if _within(name, ("trainer",)) and name != JUDGE and not _within(name, ("trainer.combine",)):
            assert not _judgements(tree), name


@pytest.mark.parametrize(
    "text",
    [
        "fused = config.reduction == 'fused'",
        "if self.config.reduction != parts: pass",
        "way = built.config.reduction",
        "passes = {'per_loss': k, 'fused': 1}[config.reduction]",
        "if reduction in ('fused', other): pass",
        "match way:\n  case 'features': pass",
        "if c.reduction == CHOSEN: pass",
        "halves = METHODS[name].looks_at is registry.LooksAt.CROSS_GRAMIAN",
        "from trainer.combine.registry import METHODS, ONE_PASS",
    ],
)
def test_judging_is_noticed(text):
    assert _judgements(ast.parse(text))


def test_without_tensorflow():
    wanted = [name for name in modules() if name in WITHOUT_TENSORFLOW]
    packages = ("trainer.common", "trainer.config", "trainer.combine.methods", "trainer.combine.solvers")
    wanted += [name for name in modules() if _within(name, packages)]
    assert set(WITHOUT_TENSORFLOW) <= set(wanted)
    code = (
        f"import importlib, sys\nfor name in {wanted!r}:\n    importlib.import_module(name)\n"
        "    assert 'tensorflow' not in sys.modules, name"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_nothing_is_too_large():
    parsed = modules() | _parsed("tests")
    lines = {name: max((node.end_lineno for node in tree.body), default=0) for name, tree in parsed.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}
    full = sorted(lines[name] for name in modules() if lines[name] > 1)
    assert full[len(full) // 2] <= LONGEST_MEDIAN
    functions = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in parsed.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in functions.items() if count > LONGEST_FUNCTION} == {}
    assert all(name.count(".") <= FOLDERS + 1 for name in modules())
