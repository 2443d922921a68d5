"""Communication between the processes of a run, and the reading of errors for workers that are gone.

A run on one machine is one worker, and everything here is immediate. On several, all workers must call the same
functions in the same order: each is a collective, and a worker waits in it until all others have come.
"""

import contextlib
import re
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import tensorflow as tf

from trainer.common.errors import LostWorkerError, reason_of
from trainer.distributed import rendezvous, signals
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction

_SIGNALS = tuple(signals.EXIT_CODES)
# What a collective raises when another worker is gone: TensorFlow has no error of its own for it.
_OF_PEERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
_TASK = re.compile(r"/job:worker/(?:replica:0/)?task:(\d+)")
_PROBE_SECONDS, _CLOSING_SECONDS = 1.0, 0.5
_BYTES_AT_ONCE = 2**26  # of a state: it travels as int64, with copies on the way
_BITS = {2: tf.int16, 4: tf.int32, 8: tf.int64}  # bytes → the integers of that size


class Workers:
    """The processes of a run.

    Args:
      strategy: where the run takes place.

    Attributes:
      rank: this process's number; 0 is the chief, which alone writes.
      count: how many there are.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.rank, self._addresses = strategy_lib.workers(strategy)
        self.count = len(self._addresses)
        self._traced: dict[Hashable, Callable[..., list[tf.Tensor]]] = {}

    @property
    def is_chief(self) -> bool:
        """True for the chief, the one worker that writes."""
        return self.rank == 0

    def agreed_signal(self, own: signal.Signals | None) -> signal.Signals | None:
        """A signal that any worker has got, the same one on all of them; None where none has."""
        if self.count == 1:
            return own
        (counts,) = self._sum([tf.constant([float(own == each) for each in _SIGNALS])], only_chief=False)
        return next((each for each, count in zip(_SIGNALS, counts.numpy(), strict=True) if count), None)

    def broadcast(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The chief's tensors, bit for bit; every worker gives tensors of these shapes and dtypes."""
        if self.count == 1 or not values:
            return list(values)
        # As integers: sums of floating-point numbers would flush the smallest ones to zero, and -0 with them.
        shared = self._sum([_as_integers(value) for value in values], only_chief=True)
        return [_from_integers(got, value.dtype) for got, value in zip(shared, values, strict=True)]

    def gather(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The tensors of all workers, bit for bit, (workers, ...) each; all give tensors of these shapes and dtypes."""
        if self.count == 1 or not values:
            return [value[tf.newaxis] for value in values]
        places = [self.rank, self.count - self.rank - 1]  # rows of zeros before and after this worker's
        rows = [tf.pad(_as_integers(value)[tf.newaxis], [places, *[[0, 0]] * value.shape.rank]) for value in values]
        gathered = self._sum(rows, only_chief=False)
        return [_from_integers(got, value.dtype) for got, value in zip(gathered, values, strict=True)]

    def broadcast_number(self, number: int) -> int:
        """The chief's number."""
        return int(self.broadcast([tf.constant(number, tf.int64)])[0])

    def broadcast_text(self, text: str) -> str:
        """The chief's text, of any length."""
        if self.count == 1:
            return text
        letters = text.encode()
        length = self.broadcast_number(len(letters))
        (heard,) = self.broadcast([tf.constant(list(letters) if self.is_chief else [0] * length, tf.uint8)])
        return bytes(heard.numpy()).decode()

    def first_text(self, text: str) -> str:
        """The text of the first worker that gives one that is not empty, on all of them; empty where none does.

        All have it once this returns, so that the first may end its process.
        """
        letters = text.encode()
        (lengths,) = self.gather([tf.constant(len(letters), tf.int64)])
        giving = next(((rank, length) for rank, length in enumerate(lengths.numpy()) if length), None)
        if giving is None:
            return ""
        rank, length = giving
        (texts,) = self.gather([tf.constant(list(letters[:length].ljust(length, b" ")), tf.uint8)])
        self.leave_together()
        return bytes(texts[rank].numpy()).decode()

    def broadcast_variables(self, state: Mapping[str, Mapping[str, tf.Variable]]) -> None:
        """Gives the variables the values that they have on the chief."""
        if self.count == 1:
            return
        group, size = [], 0
        for variable in (variable for part in state.values() for variable in part.values()):
            if group and size >= _BYTES_AT_ONCE:
                self._copy(group)
                group, size = [], 0
            group.append(variable)
            size += variable.dtype.size * variable.shape.num_elements()
        self._copy(group)

    def barrier(self) -> None:
        """Returns once all workers are here."""
        self.agreed_signal(None)

    def leave_together(self) -> None:
        """Returns once all workers are here, or one is gone: what all of them end with, none should hear as a loss."""
        with contextlib.suppress(tf.errors.OpError):
            self.barrier()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the error of a collective in which another worker is missing into a LostWorkerError that names it."""
        try:
            yield
        except Exception as error:
            causes = [error]
            while causes[-1].__cause__ is not None:
                causes.append(causes[-1].__cause__)
            for cause in causes:  # whoever met it may have taken it for a fault of the configuration
                if isinstance(cause, tf.errors.OpError) and (reason := self.lost(cause)):
                    raise LostWorkerError(reason) from error
            raise

    def lost(self, error: tf.errors.OpError) -> str | None:
        """Returns a line that names the workers that are gone; None where the error is of this worker's own making."""
        if self.count == 1:
            return None
        named = {int(number) for number in _TASK.findall(str(error)) if int(number) < self.count} - {self.rank}
        if not named and self.rank and "CoordinationService" in str(error):
            named = {0}  # it runs there
        if not named and not isinstance(error, _OF_PEERS):
            return None
        others = {rank: address for rank, address in enumerate(self._addresses) if rank != self.rank}
        refusing = set(others) - rendezvous.answering(others, _PROBE_SECONDS)
        if not refusing:  # a process that is being killed closes one socket after another
            time.sleep(_CLOSING_SECONDS)
            refusing = set(others) - rendezvous.answering(others, _PROBE_SECONDS)
        lost = sorted(named & refusing or named or refusing)
        who = ", ".join(f"worker {number} ({self._addresses[number]})" for number in lost) or "another worker"
        how = "gone" if refusing.issuperset(lost) and lost else f"not answering ({reason_of(error)})"
        return f"worker {self.rank}: lost {who}: {how}; all workers must be started again"

    def _copy(self, variables: Sequence[tf.Variable]) -> None:
        values = self.broadcast([tf.convert_to_tensor(variable) for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _sum(self, values: Sequence[tf.Tensor], *, only_chief: bool) -> list[tf.Tensor]:
        """The sums over all workers, or the chief's values."""
        per_worker = self._strategy.num_replicas_in_sync // self.count

        def on_replica(*values: tf.Tensor) -> list[tf.Tensor]:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            counted = tf.equal(replica if only_chief else replica % per_worker, 0)  # one replica for each worker
            values = [tf.where(counted, value, tf.zeros_like(value)) for value in values]
            return Reduction().sum((), list(values))[1]

        def run(*values: tf.Tensor) -> list[tf.Tensor]:
            summed = self._strategy.run(on_replica, args=values)
            return [self._strategy.experimental_local_results(value)[0] for value in summed]

        key = (only_chief, *((value.dtype, tuple(value.shape)) for value in values))
        if key not in self._traced:
            self._traced[key] = tf.function(run, autograph=False).get_concrete_function(*values)
        return self._traced[key](*values)


def _as_integers(value: tf.Tensor) -> tf.Tensor:
    """The bits of floating-point numbers, and other numbers themselves, as int64."""
    return tf.cast(tf.bitcast(value, _BITS[value.dtype.size]) if value.dtype.is_floating else value, tf.int64)


def _from_integers(value: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    if not dtype.is_floating:
        return tf.cast(value, dtype)
    return tf.bitcast(tf.cast(value, _BITS[dtype.size]), dtype)
