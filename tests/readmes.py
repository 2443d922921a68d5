"""Every README of the project, and the commands that stand in them.

A command stands in a block of bash. tests/test_readmes.py runs it, or the file that `ELSEWHERE` names, which imports it
from here.
"""

import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("trainer", "input_pipelines", "configs", "launch", "tests", ".github", ".ci")
FRONT, MEASURED = "README.md", "tests/benchmarks/README.md"

DIGITS = "bash launch/local.sh --strategy=mirrored --combine=weighted"
OWN_TABLE = "bash launch/local.sh --config=configs/own_table.py"
ACTIVATE = "source .venv/bin/activate"
DESCRIBE = "python -m trainer.describe --config=configs/own_table.py --output=table.png"
OWN_ARRAYS = (
    "python -m trainer.main --config=configs/own_arrays.py --workdir=runs/wine",
    "python -m trainer.main --config=configs/own_arrays.py --config.losses.alcohol.weight=1 --virtual_devices=2",
    "python -m trainer.main --mode=eval --workdir=runs/wine",
)
FROM_ANOTHER = (
    "python -m trainer.main --config=configs/own_arrays.py --config.init_from=runs/wine --config.freeze='trunk*'"
)
FINE_TUNING = (
    "python -c \"from configs import fine_tuning; fine_tuning.save_backbone('backbone.weights.h5')\"",
    "python -m trainer.main --config=configs/fine_tuning.py --workdir=runs/heads",
    "python -m trainer.main --config=configs/fine_tuning_everything.py --workdir=runs/everything",
)
TENSORBOARD = "tensorboard --logdir runs"
KUBERNETES = (
    "docker build -f launch/kubernetes/Dockerfile -t registry.example.com/multi-head-trainer:1 .",
    "kubectl kustomize launch/kubernetes",
    "kubectl apply -k launch/kubernetes",
)
PREDICTION = "python -m trainer.cost --config=configs/digits.py --replicas=8,64,512"
PARTS_OF_THE_SUITE = (
    "bash tests/run.sh tests/input_pipelines",
    "bash tests/run.sh tests/trainer/test_main.py -k evaluate",
    "CI=true bash tests/run.sh tests/launch",
    "bash tests/run.sh --durations=20",
)
HERE = {
    DIGITS,
    OWN_TABLE,
    ACTIVATE,
    DESCRIBE,
    *OWN_ARRAYS,
    FROM_ANOTHER,
    TENSORBOARD,
    *KUBERNETES,
    PREDICTION,
    *PARTS_OF_THE_SUITE,
}

SUITE = "bash tests/run.sh"
COMPARISON = "python -m trainer.cost --replicas=8,64,512 --compare --markdown"
FASHION_MNIST = "python -m trainer.main --config=configs/fashion_mnist.py --download"
SELFCHECKS = (
    "python -m trainer.selfcheck",
    "python -m launch.workers --workers=2 -- python -m trainer.selfcheck --strategy=multi_worker",
)
LAUNCHES = (
    "python -m launch.workers --workers=2 -- python -m trainer.main --strategy=multi_worker --workdir=runs/two",
    "python -m launch.workers --hosts=a,b --max_restarts=3 -- "
    ".venv/bin/python -m trainer.main --strategy=multi_worker --workdir=runs/ab",
)
SLURM = (
    "sbatch --nodes=2 --time=1:00:00 launch/slurm.sbatch --combine=pcgrad",
    "printf '%s\\n' --combine={weighted,pcgrad}' '--config.seed={0,1,2} > sweep.txt",
    "sbatch --array=1-6 launch/slurm.sbatch --sweep=sweep.txt --config.steps=1000",
    "sbatch --array=1-2 launch/slurm.sbatch --sweep --combine=weighted,pcgrad --workdir=runs/compared",
    "python -m trainer.compare --combine=weighted,pcgrad --workdir=runs/compared",
)
SERVICE = (
    "python -m trainer.main --config=configs/own_table.py --workdir=runs/diabetes",
    "python -m trainer.predict --workdir=runs/diabetes --split=validation --output=held_out.csv",
    "python -m trainer.predict --workdir=runs/diabetes --data=configs/diabetes.csv --keep=age,sex "
    "--output=patients.parquet",
    "python -m trainer.main --mode=eval --workdir=runs/diabetes --data=configs/diabetes.csv",
    "python -m trainer.export --workdir=runs/diabetes --format=saved_model --output=served/diabetes/1",
    "python -c 'import tensorflow as tf; "
    'run = tf.saved_model.load("served/diabetes/1").signatures["serving_default"]; '
    "row = dict(age=29, sex=1, bmi=30, s1=180, s2=93.4, s3=43, s4=4, s5=5.3845, s6=88); "
    "print(run(**{name: tf.constant([value], tf.float64) for name, value in row.items()}))'",
)
COMPARISONS = (
    "python -m trainer.compare --config=configs/own_table.py --combine=weighted,pcgrad --single_task "
    "--workdir=runs/compared",
    "python -m trainer.compare --workdirs='runs/compared/*/seed_0' --workdir=runs/first_seeds",
)
TUNED = (
    "python -m trainer.compare --config=configs/own_table.py --combine=weighted,cagrad --tuned=8 --seeds=10 "
    "--objective='{loss/progression} + {loss/high_pressure}' --workdir=runs/tuned"
)
# File with a test → the name here of the commands that it runs, and these.
ELSEWHERE = {
    "tests/test_run.py": ("SUITE", (SUITE,)),
    "tests/trainer/compare/test_compare.py": ("COMPARISONS", COMPARISONS),
    "tests/trainer/compare/test_tuning.py": ("TUNED", (TUNED,)),
    "tests/trainer/cost/test_cost.py": ("COMPARISON", (COMPARISON,)),
    "tests/configs/test_fine_tuning.py": ("FINE_TUNING", FINE_TUNING),
    "tests/configs/test_presets.py": ("FASHION_MNIST", (FASHION_MNIST,)),
    "tests/trainer/selfcheck/test_selfcheck_program.py": ("SELFCHECKS", SELFCHECKS),
    "tests/trainer/export/test_service.py": ("SERVICE", SERVICE),
    "tests/launch/test_workers_over_ssh.py": ("LAUNCHES", LAUNCHES),
    "tests/launch/test_slurm.py": ("SLURM", SLURM),
}


def _files() -> Iterator[str]:
    """Paths of the project's files, below its root; not of what somebody keeps beside them."""
    for folder in FOLDERS:
        yield from (str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file())
    yield from (path.name for path in ROOT.iterdir() if path.is_file())


FILES = frozenset(_files())
PAGES = {name: (ROOT / name).read_text() for name in sorted(FILES) if pathlib.Path(name).name == "README.md"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and text of each block of code in a language."""
    for name, page in PAGES.items():
        for text in re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            yield name, text


def section(page: str, heading: str) -> str:
    """The text of a page below the heading of the second level that begins like this."""
    return re.search(rf"^## {heading}.*?\n(.*?)(?=^## |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)[1]
