"""Workers wait for one another before TensorFlow does, which could neither be asked to stop nor say who is missing.

Each worker listens at its address, asks all others who they are, and answers when it is asked. TensorFlow takes any
process at an address for the worker that belongs there, and a second one of a rank for the first one, restarted, which
ends the run; so here each says its rank, what it was told of the others, and a token of its own start.

Nobody leaves before everybody has seen everybody. A worker that knows all tokens says so with a hash of them. It leaves
when each of the others has said the same hash, and has confirmed to have heard it from this one. Where one that has
said the same hash no longer answers, it has left: it needs nothing more. Soon afterwards TensorFlow's server listens.
A process that comes later finds that server, and ends before TensorFlow could take it for a worker of that run.

Needs no TensorFlow.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from trainer.common.errors import ConfigError, RunError
from trainer.distributed import introductions, signals
from trainer.distributed.cluster import Cluster
from trainer.distributed.introductions import Introduction, NoAnswer

_POLL_SECONDS, _ANSWER_SECONDS, _AT_ONCE = 0.25, 5.0, 64
_FIRST_WORD, _NEXT_WORD = 30.0, 300.0
# Of a run that has lost a worker, and of one that was started again before all of it had ended.
_ENDING_SECONDS = 20.0
_STAY_SECONDS = 2.0  # after a difference was found, so that the others find it, too
_MOST_STRANGERS = 5  # of whom something is said
_NOT_WAITING = (
    "answers, but not as a worker that waits: a run trains there already, or another program, or another version of "
    "this one, uses the port"
)


def meet(cluster: Cluster, limit: float, say: Callable[[str], object]) -> None:
    """Returns once every worker of the cluster was there, and all know that.

    Args:
      cluster: the workers.
      limit: seconds after which to give up.
      say: gets a line about who is missing, now and then.

    Raises:
      ConfigError: the workers were told different things.
      RunError: another process uses this worker's port, is this worker, or trains at another one's; or a worker has
        not come in time.
    """
    meeting, asked = _Meeting(cluster), {}
    start, word = time.monotonic(), _FIRST_WORD
    with contextlib.ExitStack() as stack:
        stack.enter_context(introductions.Listener(_listen(cluster, meeting.own()), meeting.answer))
        pool = ThreadPoolExecutor(max_workers=_AT_ONCE, initializer=signals.hold)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # one may still wait for a name
        while to_ask := meeting.to_ask():
            before = meeting.own()
            for rank in to_ask:
                if rank not in asked:
                    asked[rank] = pool.submit(_asked, cluster.addresses[rank], before)
            wait(asked.values(), timeout=_POLL_SECONDS)
            for rank in [rank for rank, future in asked.items() if future.done()]:
                meeting.learn(rank, *asked.pop(rank).result())
            for line in meeting.strangers():
                say(line)
            waited = time.monotonic() - start
            who, why = meeting.missing()
            if who and waited >= min(word, limit):
                if waited >= limit:
                    raise RunError(f"worker {cluster.rank}: {who} {why} after {limit:.0f} s")
                say(f"worker {cluster.rank} waits for {who}")
                word += _NEXT_WORD
            if meeting.own() == before:
                time.sleep(_POLL_SECONDS)


def answering(addresses: Mapping[int, str], seconds: float) -> set[int]:
    """The ranks of those workers at whose `host:port` something listens; asks many at once."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = pool.map(lambda address: _answers(address, seconds), addresses.values())
        return {rank for rank, there in zip(addresses, answers, strict=True) if there}


class _Meeting:
    """All that a worker knows of the others, for the thread that asks and the one that answers."""

    def __init__(self, cluster: Cluster):
        self._cluster, self._rank, self._count = cluster, cluster.rank, len(cluster.addresses)
        self._others = [rank for rank in range(self._count) if rank != self._rank]
        self._addresses = _hash(cluster.addresses)
        self._lock = threading.Lock()
        self._tokens = {self._rank: secrets.token_hex(16)}
        self._all_tokens, self._turn = "", 0  # a hash of all tokens; "" while one is missing
        # rank → the hash of all tokens that it has said, behind its turn: answers and requests may overtake each other
        self._seen: dict[int, tuple[int, str]] = {}
        self._confirmed: dict[int, str] = {}  # rank → the hash that it has heard from this worker
        self._foreign_since: dict[int, float] = {}
        self._strangers: list[str] = []
        self._said = 0

    def own(self) -> Introduction:
        """This worker's introduction, as of now."""
        with self._lock:
            return self._own()

    def to_ask(self) -> list[int]:
        """The ranks that must be asked again, this worker's own among them; none once it may leave."""
        with self._lock:
            others = self._unsettled()
            # Its own address must lead to itself and not to a process of the same rank; it may lead nowhere.
            return [*others, self._rank] if others else []

    def answer(self, request: Introduction, host: str) -> Introduction:
        """Notes a request if it is of the process at its worker's address; returns the answer.

        A request alone ends nothing, so that a stray process cannot end workers that wait.
        """
        with self._lock:
            difference = self._difference(request, request.rank)
            known = difference is None and self._tokens.get(request.rank) == request.token
            if known:
                self._hear(request)
            if difference is not None and len(self._strangers) < _MOST_STRANGERS:
                line = f"worker {self._rank}: a process on {host} looks for it and {difference}; it is ignored"
                self._strangers += [line] if line not in self._strangers else []
            return self._own(recorded=known)

    def learn(self, rank: int, asked: Introduction, answer: Introduction | NoAnswer) -> None:
        """Notes who is at the address of a worker; raises what `meet` does.

        Args:
          rank: the worker's.
          asked: what it was asked with.
          answer: what has come of that.
        """
        if isinstance(answer, Introduction):
            self._refuse_another(rank, answer)
        with self._lock:
            if answer is not NoAnswer.FOREIGN:
                self._foreign_since.pop(rank, None)
            if isinstance(answer, Introduction):
                self._note(rank, asked, answer)
            elif rank in self._others and answer is not NoAnswer.SILENT and self._agrees(rank):
                self._confirmed[rank] = self._all_tokens  # it has left
            elif answer is NoAnswer.FOREIGN:
                since = self._foreign_since.setdefault(rank, time.monotonic())
                if time.monotonic() - since >= _ENDING_SECONDS:
                    raise RunError(f"worker {self._rank}: {self._place(rank)} {_NOT_WAITING}")
            elif rank in self._others and answer is NoAnswer.REFUSED:
                self._take(rank, None)

    def missing(self) -> tuple[str, str]:
        """The workers that are waited for, "" where there are none, and what is wrong with them."""
        with self._lock:
            if absent := [rank for rank in self._others if rank not in self._tokens]:
                return ", ".join(map(self._place, absent)), "not there"
            return ", ".join(map(self._place, self._unsettled())), "there, but has not said that it sees all others"

    def strangers(self) -> list[str]:
        """Lines about processes that have asked although they belong to other workers; each once."""
        with self._lock:
            new, self._said = self._strangers[self._said :], len(self._strangers)
            return new

    def _refuse_another(self, rank: int, there: Introduction) -> None:
        """Raises where the process at a worker's address is not that worker."""
        if rank == self._rank and there.token != self._tokens[rank]:
            raise RunError(
                f"worker {rank}: another process answers at its address, {self._cluster.addresses[rank]}, as worker "
                f"{there.rank} of {there.workers}: it was started twice, or elsewhere than its address says"
            )
        difference = self._difference(there, rank)
        if difference is not None:
            time.sleep(_STAY_SECONDS)
            raise ConfigError(self._cluster.launcher, ConfigError.ABSENT, f"{self._place(rank)} {difference}")

    def _difference(self, other: Introduction, rank: int) -> str | None:
        """The end of a sentence about a process that cannot be the worker of this rank; None where it can."""
        says = f"says that it is worker {other.rank} of {other.workers}"
        if other.workers != self._count or rank != other.rank:
            return f"{says}; this is worker {self._rank} of {self._count}"
        if other.addresses != self._addresses:
            return f"{says} at other addresses than those that worker {self._rank} has; all need the same"
        return None

    def _note(self, rank: int, asked: Introduction, answer: Introduction) -> None:
        if rank == self._rank:
            return
        self._take(rank, answer.token)
        self._hear(answer)
        if answer.recorded:
            self._confirmed[rank] = asked.seen

    def _take(self, rank: int, token: str | None) -> None:
        """Takes the process with this token for the worker of the rank; None: there is none any more."""
        if self._tokens.get(rank) == token:
            return
        for known in (self._tokens, self._seen, self._confirmed):
            known.pop(rank, None)
        if token is not None:
            self._tokens[rank] = token
        tokens = (own for _, own in sorted(self._tokens.items()))
        self._all_tokens = _hash(tokens) if len(self._tokens) == self._count else ""
        self._turn += 1

    def _hear(self, other: Introduction) -> None:
        self._seen[other.rank] = max(self._seen.get(other.rank, (0, "")), (other.turn, other.seen))

    def _own(self, recorded: bool = False) -> Introduction:
        token = self._tokens[self._rank]
        return Introduction(self._rank, self._count, self._addresses, token, self._all_tokens, self._turn, recorded)

    def _agrees(self, rank: int) -> bool:
        return self._all_tokens != "" and self._seen.get(rank, (0, ""))[1] == self._all_tokens

    def _unsettled(self) -> list[int]:
        """The workers that have not seen what this one has, or not confirmed to have heard so."""
        return [
            rank for rank in self._others if not self._agrees(rank) or self._confirmed.get(rank) != self._all_tokens
        ]

    def _place(self, rank: int) -> str:
        return f"worker {rank} ({self._cluster.addresses[rank]})"


def _asked(address: str, own: Introduction) -> tuple[Introduction, Introduction | NoAnswer]:
    return own, introductions.ask(address, own, _ANSWER_SECONDS)


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


def _answers(address: str, seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, ValueError):  # of a name that can be none
        return False
    return True


def _listen(cluster: Cluster, own: Introduction) -> socket.socket:
    where = cluster.addresses[cluster.rank]
    port = int(where.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    backlog = max(128, len(cluster.addresses))
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual, backlog=backlog
        )
    except OSError as error:
        reason = os.strerror(error.errno)
        if error.errno == errno.EADDRINUSE:
            there = introductions.ask(f"127.0.0.1:{port}", own, _ANSWER_SECONDS)
            if isinstance(there, Introduction):
                reason += f": worker {there.rank} of {there.workers} waits there; it may have been started twice"
            elif there is NoAnswer.FOREIGN:
                reason += f"; the port {_NOT_WAITING}"
        raise RunError(f"worker {cluster.rank} cannot listen at {where}: {reason}") from error
