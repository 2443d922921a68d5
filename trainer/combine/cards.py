"""Makes the README beside this file from the registry: a table of the methods and a card for each."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from trainer.combine.entry import LooksAt, Method
from trainer.combine.registry import METHODS
from trainer.common import schema

_HEAD = """\
# Combination methods

How the gradients of several losses become one update: methods by name (`--combine=NAME`), a table and a card for each.
A method is a pure function of a small problem, at most K losses and a K x K matrix, the same on every replica. [One of
your own](#your-own) is a function in a file of yours.

| file | what it holds |
| --- | --- |
| `registry.py` | the table of names: which entry, in which file, a name means |
| `user_function.py` | makes a method of a function of your own |
| `methods/` | a file for each method or family: its functions and, below them, its entry with options and card |
| `entry.py` | what an entry is: `Method`, `LooksAt`, `Card`, and the ranges in which options are tuned |
| `problem.py` | what a method may look at, and what it answers |
| `solvers/` | quadratic problems with K unknowns, the projection onto the simplex, Adam for K numbers |
| `combination.py` | a method with its options and what can be put around any: scaled losses, logarithms, smoothing |
| `random_numbers.py` | numbers that a method draws, the same with XLA and without |
| `mixing.py` | from coefficients to what is applied to each variable |
| `aggregation.py` | any method on a plain matrix: `trainer.combine.aggregate` |
| `cards.py` | makes this page: `python -m trainer.combine.cards > trainer/combine/README.md` |

## To add a method to these

1. Write `methods/NAME.py`, or add to a family's file: a function from a `Problem` to K coefficients and, below it, the
   entry `NAME = Method(function=..., looks_at=..., summary=..., card=Card(...))`. `methods/cagrad.py` is one with an
   option, `methods/famo.py` one that remembers something. TensorFlow comes as
   `from trainer.combine import lazy_tensorflow as tf`, so that `--help` and configuration errors need not load it.
   An option's setting ends with the values that `trainer.compare --tuned` tries, such as `Between(0.05, 0.95)`.
2. Add the name to the table in `registry.py`. Its options, `--help` and what is saved follow from the entry.
3. Say in `tests/trainer/combine/test_aggregate.py` what its results are compared with. The properties tested there hold
   for every name.
4. Make this page anew, add the method's row to `tests/benchmarks/README.md` (`python -m tests.benchmarks.methods
   --combine=NAME` prints it), and its name to the front page.

## Notation

Loss k has the value Lₖ and, over all shared variables, the gradient gₖ, row k of J; G = J Jᵀ is the Gramian, ‖gₖ‖ the
roots of its diagonal. K losses; sums run over the active ones, which have a labelled example in the batch. A *pass* is
a backward pass. Options are keys below the method's name: `--config.combine.cagrad.c=0.5`. Where the paper has a
preference, it is a list with a number for each loss: `combine.upgrad.preference`.

## Which one?

Start with `weighted` and a few short runs to choose the weights: it is the cheapest, and hard to beat. Look at the
reported cosines: where they stay near or above zero, the losses do not conflict, and other methods have little to gain.
Where they conflict, try `pcgrad`, `upgrad` or `cagrad`; where the losses' scales mean nothing, `nash_mtl`, `imtl_g` or
`aligned_mtl`. The cards say when to use each method and when not. `python -m trainer.compare` answers it for your own
problem.

![Δm of eight methods on four data sets, with intervals: none is best on all](../../.github/comparison.png)

Measured on four data sets, [each with its table](../../tests/benchmarks/README.md#eight-methods-on-four-data-sets): no
method is best everywhere. Of eight flows of a river, whose losses differ in what can be known, `mgda` and `nash_mtl`
are best, and fixed equal weights far behind; on Fashion-MNIST they trade accuracy for the redrawn picture; on the
digits a weight chosen by hand wins; on the census all are alike. What a step with each method costs is
[measured](../../tests/benchmarks/README.md#combination-methods), too.

## Around any method

| key | what it does |
| --- | --- |
| `combine.apply=per_loss` | each loss's optimizer applies this loss's mixed gradient \
(not for methods that look at elements) |
| `combine.use_weights=true` | the losses are scaled by `losses.<name>.weight` before the method sees them; \
`weighted` and `independent` use these weights anyway, the others ignore them |
| `combine.log_losses=true` | the method sees the losses' logarithms, so that their scales play no part |
| `combine.smoothing=0.9` | a step's coefficients are nine parts those of the step before (CR-MOGM) |
| `combine.update_every=10` | a method's coefficients hold for ten steps, nine of them with one backward pass |

- Learned weights, moving averages and targets are in the checkpoints. A loss without a label in a step, or with the
  weight 0 in that step, does not exist for the method, and what the method remembers of this loss stays as it is.
- Variables of one loss alone get that loss's gradient as it is; with `sum`, `weighted`, `random` and methods that look
  at loss values it is multiplied by the loss's weight.
- Where a problem has no solution (opposite gradients), the mean of the unit-length gradients is applied, and the step
  is counted in the reports (`fallbacks`).
- A loss at or below zero whose logarithm is needed ends the run with its name.
- Weights are solved for exactly, in float64, within the step. Those that float32 cannot hold, as gradients of length
  1e-30 may have, are applied in float64.

`trainer.combine.aggregate` runs any of them on a plain matrix:

```python
from trainer.combine import aggregate

aggregate("pcgrad", [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])  # [0.5848, 3.8012, 3.8012]
```
"""
_OWN = '''\
## Your own

A method of your own is a function. The names of its parameters say what it looks at; all others are options, with
defaults. It returns a coefficient for each loss (`tf` is TensorFlow, `np` NumPy):

```python
def equal_lengths(gramian, *, power=1.0):
    """Σ wₖ gₖ, wₖ = ‖gₖ‖^-power: with power 1 all gradients are equally long."""
    norms = tf.sqrt(tf.linalg.diag_part(gramian))
    return tf.math.divide_no_nan(1.0, norms**power)
```

`--combine=mine:equal_lengths` takes it from `mine.py` in the folder of the command (or any module that can
be imported), with options under `combine.options`: `--config.combine.options.power=0.5`. `MultiLossModel` takes the
function itself (`combine=equal_lengths`, with options `combine={"name": equal_lengths, "power": 0.5}`), and so does
`aggregate(equal_lengths, jacobian, power=0.5)`, to try it. `configs/own_methods.py` has both examples of this page.

| parameter | holds |
| --- | --- |
| `losses` | (K,) the losses of the whole batch |
| `gramian` | (K, K) G, the inner products of the losses' gradients over all shared variables |
| `gradients` | (k, n) the gradients of one shared variable, of the k losses that reach it |
| `state` | what it returned as state in the step before |
| `active` | (K,) bool, the losses that take part in this step; with `gradients` (k,), as the next one |
| `loss_weights` | (K,) `losses.<name>.weight` |
| `step`, `epoch` | their numbers, from 0 |
| `seed` | a stateless seed of this step, for `tf.random.stateless_*` |

All are tensors, of numbers float64, the same on every replica; `gradients` are of the variables' dtype. What belongs to
a loss that takes no part is 0, and what is returned for it does not matter; so divide with `tf.math.divide_no_nan`.

- **Cost.** Without `gramian` and `gradients` one backward pass serves all losses (a fused step), and variables of one
  loss alone get its gradient times the coefficient, too. `gramian` needs a pass for each loss. With `gradients` the
  function is called for each shared variable and returns what is applied to it, (n,), in place of coefficients.
- **Weights.** A method that asks for `loss_weights` uses them itself: `use_weights`, and that `MultiLossModel` scales
  the losses, are for all others.
- **State.** A function of `state` returns the coefficients and the new state. Its attribute `initial` gives, for K
  losses, the state at the start: names of single numbers, K or K x K of them. It is saved with every checkpoint, and
  that of a loss without a label in a step stays as it is:

```python
def steady(losses, state, *, memory=0.9):
    """Σ wₖ gₖ, wₖ = 1 / the moving average of Lₖ: every loss counts relative to its own recent values."""
    average = tf.where(state["average"] == 0.0, losses, memory * state["average"] + (1 - memory) * losses)
    return tf.math.divide_no_nan(1.0, average), {"average": average}


steady.initial = lambda count: {"average": np.zeros(count)}
```

The function is traced: conditions are `tf.where`, and what Python computes is computed once. `config.json` has its
import path, so that a run resumes with the same one only; workers compare the module's code when they start. A run of
somebody else's calls it only with `--trust` ([`trainer/run/README.md`](../run/README.md)). What it raises, a wrong
shape or a number that is not finite is one line that names it.
'''
_LOOKS_AT = {
    LooksAt.NOTHING: "nothing",
    LooksAt.LOSSES: "losses",
    LooksAt.GRAMIAN: "Gramian",
    LooksAt.CROSS_GRAMIAN: "Gramian of two half batches",
    LooksAt.MOVING_GRAMIAN: "Gramian of moving averages",
    LooksAt.ELEMENTS: "elements",
}
# How many passes, and what there is to say of them.
_PASSES = {
    LooksAt.NOTHING: ("1", "one pass, K with `reduction=per_loss`"),
    LooksAt.LOSSES: ("1", "one pass, K with `reduction=per_loss`"),
    LooksAt.GRAMIAN: ("K", "K passes, fewer with `reduction=features` or `combine.update_every`"),
    LooksAt.CROSS_GRAMIAN: ("2 K", "2 K passes, K over each half of the batch, fewer with `combine.update_every`"),
    LooksAt.MOVING_GRAMIAN: ("K", "K passes, and averages as large as K gradients of the shared variables"),
    LooksAt.ELEMENTS: ("K", "K passes"),
}


def text() -> str:
    """The page in Markdown."""
    cards = "\n".join(_card(name, method) for name, method in METHODS.items())
    return "\n".join([_HEAD, _OWN, "## Methods", "", *_table(), "", "## Cards", "", cards])


def _table() -> Iterator[str]:
    yield "| `--combine` | gradient of a shared variable | looks at | passes | file |"
    yield "| --- | --- | --- | --- | --- |"
    for name, method in METHODS.items():
        passes, _ = _passes(method)
        cells = (f"[`{name}`](#{name})", method.summary, _LOOKS_AT[method.looks_at], passes, _file(method))
        yield f"| {' | '.join(cells)} |"


def _card(name: str, method: Method) -> str:
    card = method.card
    paper = f"[{method.paper[0]}]({method.paper[1]})" if method.paper else "none in particular"
    options = [] if method.options is None else map(_option, dataclasses.fields(method.options))
    return f"""\
### {name}

{method.summary}

- **Formula**: {card.formula}
- **Paper**: {paper}
- **File**: {_file(method)}
- **Looks at**: {method.sees(_defaults(method))}
- **Cost**: {_passes(method)[1]}; {card.work}
- **Options**:{"".join(options) or " none"}
- **Tuned over**: {_tuned(method)}
- **When to use**: {card.use}
- **When not**: {card.avoid}
- **Differences from the authors' code**: {card.differences}
"""


def _passes(method: Method) -> tuple[str, str]:
    number, description = _PASSES[method.looks_at]
    if method.per_loss:
        return "K", "K passes"
    if method.observe is not None:
        description += ", and the losses of the same batch once more after the update"
        return f"{number}, and a forward pass", description
    return number, description


def _file(method: Method) -> str:
    path = f"methods/{method.function.__module__.rpartition('.')[2]}.py"
    return f"[`{path}`]({path})"


def _defaults(method: Method) -> dict[str, Any]:
    fields = () if method.options is None else dataclasses.fields(method.options)
    return {field.name: field.metadata["default"] for field in fields}


def _option(field: dataclasses.Field) -> str:
    accepted = schema.accepted(field.metadata["check"])
    return f"\n  - `{field.name}={field.metadata['default']}`: {field.metadata['meaning']} ({accepted})"


def _tuned(method: Method) -> str:
    """The ranges of `trainer.compare --tuned`, beside that of the learning rate."""
    if method.weighted:
        return "the losses' weights"
    fields = () if method.options is None else dataclasses.fields(method.options)
    ranges = [f"`{field.name}` {field.metadata['search']}" for field in fields if field.metadata["search"] is not None]
    return "; ".join(ranges) or "nothing of its own"


if __name__ == "__main__":
    print(text(), end="")
