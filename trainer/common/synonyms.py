"""Words that people bring for a setting whose own name is another one."""

import difflib
from collections.abc import Collection, Mapping

# Word → dotted names of what it may mean; the one counts whose first part is a setting where the word stands.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "lr": ("optimizer.learning_rate",),
    "learning_rate": ("optimizer.learning_rate",),
    "wd": ("optimizer.weight_decay",),
    "weight_decay": ("optimizer.weight_decay",),
    "momentum": ("optimizer.momentum",),
    "optim": ("optimizer",),
    "loss_weight": ("losses.<name>.weight",),
    "loss_weights": ("losses.<name>.weight",),
    **dict.fromkeys(("bs", "batch", "global_batch_size"), ("batch_size",)),
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "max_steps", "num_steps", "iterations"), ("steps",)),
    **dict.fromkeys(("random_seed", "rng"), ("seed",)),
    **dict.fromkeys(("dtype", "amp", "fp16", "bf16", "mixed_precision"), ("precision",)),
    **dict.fromkeys(("clip", "clipnorm", "grad_clip", "max_grad_norm", "gradient_clipping"), ("clip_norm",)),
    **dict.fromkeys(("accumulation_steps", "gradient_accumulation_steps", "grad_accum"), ("micro_batches",)),
    **dict.fromkeys(("xla", "jit", "jit_compile", "compiled"), ("compile",)),
    **dict.fromkeys(("validation_split", "val_split"), ("held_out", "dataset.held_out")),
    **dict.fromkeys(("log_every", "log_interval"), ("report_every",)),
    **dict.fromkeys(("save_every", "save_steps"), ("checkpoint_every",)),
    "patience": ("early_stopping.patience",),
    "callbacks": ("hooks",),
    **dict.fromkeys(("logger", "wandb"), ("loggers",)),
    "data": ("dataset",),
    "method": ("combine.name",),
    "gradients": ("reduction",),
}


def of(word: str, names: Collection[str]) -> str | None:
    """The dotted name that `word` is a synonym of where the settings `names` are; None where it is none."""
    return next((name for name in SYNONYMS.get(word.lower(), ()) if name.partition(".")[0] in names), None)


def meant(word: str, names: Collection[str]) -> str | None:
    """Returns the one of `names` that `word` probably means, by synonym or by spelling; None where there is none."""
    return of(word, names) or _within(word, names) or next(iter(difflib.get_close_matches(word, names, n=1)), None)


def value_for(word: str, value: str) -> str:
    """Returns the value given for `word` as the setting takes it whose synonym that is: '3 epochs' for 3 epochs."""
    return f"{value} epochs" if word.lower().endswith("epochs") and "epoch" not in value else value


def _within(word: str, names: Collection[str]) -> str | None:
    """The last part of what `word` is a synonym of, where `names` are the settings beside it; None elsewhere."""
    lasts = (name.rpartition(".")[2] for name in SYNONYMS.get(word.lower(), ()))
    return next((last for last in lasts if last in names), None)
