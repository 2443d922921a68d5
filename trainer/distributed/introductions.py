"""Introductions between workers: one says in a line who it is, and the one that is there answers with who that is.

Anybody may connect: what comes from the network is bounded in bytes and in time, and read as JSON of one fixed shape
only. Needs no TensorFlow.
"""

import contextlib
import dataclasses
import enum
import json
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from trainer.distributed import signals

_PROTOCOL = "multi-head-trainer, workers meet, 1"
_LONGEST_LINE = 1024  # bytes; a line of ours has about 250
_HEX = re.compile(r"[0-9a-f]{0,64}")
_MOST_GUESTS, _GUEST_SECONDS = 128, 5.0
_PAUSE = 0.05  # seconds after the system has refused a connection, which it might do again and again


@dataclasses.dataclass(frozen=True)
class Introduction:
    """All that a worker says of itself.

    Attributes:
      rank: its number.
      workers: how many there are, as it was told.
      addresses: a hash of all addresses, as it was told.
      token: drawn at random by every process, so that two starts of a rank differ.
      seen: a hash of the tokens of all workers, once it knows them; "" before.
      turn: how often that has changed, so that what was said before is not taken for what was said last.
      recorded: of an answer: whether it holds what the request has said.
    """

    rank: int
    workers: int
    addresses: str
    token: str
    seen: str = ""
    turn: int = 0
    recorded: bool = False

    def line(self) -> bytes:
        """The line that is sent."""
        return json.dumps({"protocol": _PROTOCOL, **dataclasses.asdict(self)}).encode() + b"\n"


class NoAnswer(enum.Enum):
    """The ways in which an address does not answer with an introduction."""

    SILENT = "no name, no way there, or no word in time"
    REFUSED = "nothing listens there"
    FOREIGN = "something else than a worker that waits has answered"


def read(line: bytes) -> Introduction:
    """The introduction that a line holds; raises ValueError for any other line."""
    try:
        given = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    kinds = {field.name: field.type for field in dataclasses.fields(Introduction)}
    if not isinstance(given, dict) or given.pop("protocol", None) != _PROTOCOL or given.keys() != kinds.keys():
        raise ValueError("no introduction")
    for name, kind in kinds.items():
        if type(given[name]) is not kind or (kind is str and not _HEX.fullmatch(given[name])):
            raise ValueError(f"{name} cannot be this")
    if not 0 <= given["rank"] < given["workers"] < 10**6 or given["turn"] < 0:
        raise ValueError("numbers cannot be these")
    return Introduction(**given)


def ask(address: str, own: Introduction, seconds: float) -> Introduction | NoAnswer:
    """Introduces this worker at `host:port`, and returns who is there.

    A name may have several addresses, of which some lead nowhere: each gets these seconds until one has answered.
    """
    host, _, port = address.rpartition(":")
    found: set[NoAnswer] = set()
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as connection:
                answer = _ask(connection, place, own, seconds)
            if isinstance(answer, Introduction):
                return answer
            found.add(answer)
    except (OSError, ValueError):  # a name that is not known (yet), or can be none
        return NoAnswer.SILENT
    # Refused by all, or not certain.
    return next((answer for answer in (NoAnswer.FOREIGN, NoAnswer.SILENT) if answer in found), NoAnswer.REFUSED)


def _ask(connection: socket.socket, place: tuple, own: Introduction, seconds: float) -> Introduction | NoAnswer:
    deadline, received = time.monotonic() + seconds, b""
    connection.settimeout(seconds)
    try:
        connection.connect(place)
        if connection.getsockname() == connection.getpeername():
            return NoAnswer.REFUSED  # Linux may connect a port to itself where nobody listens
        connection.sendall(own.line())
        while b"\n" not in received and len(received) <= _LONGEST_LINE:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (part := connection.recv(_LONGEST_LINE)):
                break
            received += part
    except ConnectionRefusedError:
        return NoAnswer.REFUSED
    except OSError:  # too late, or reset: TensorFlow's server does that after its first bytes
        pass
    if not received:  # as a proxy does for a worker that is not there yet
        return NoAnswer.SILENT
    try:
        return read(received)
    except ValueError:
        return NoAnswer.FOREIGN


class _Guest(NamedTuple):
    connection: socket.socket
    host: str
    until: float
    received: bytearray


class Listener:
    """Answers introductions in a thread, while it is entered.

    Nobody can keep others out: each connection has a few seconds and one short line, and where there are too many the
    oldest is closed.

    Args:
      listening: the socket, which is closed with this.
      answer: gets an introduction and the host that it came from; returns what is answered.
    """

    def __init__(self, listening: socket.socket, answer: Callable[[Introduction, str], Introduction]):
        self._listening, self._answer = listening, answer
        self._guests: dict[socket.socket, _Guest] = {}  # the oldest first
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, name="introductions", daemon=True)

    def __enter__(self) -> "Listener":
        self._listening.setblocking(False)
        for source in (self._listening, self._woken):
            self._selector.register(source, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wake.close()
        self._thread.join()
        for guest in list(self._guests):
            self._close(guest)
        self._selector.close()
        self._woken.close()
        self._listening.close()

    def _serve(self) -> None:
        signals.hold()  # they are the main thread's
        while True:
            for key, _ in self._selector.select(timeout=1.0):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listening:
                    self._accept()
                elif key.fileobj in self._guests:  # not one that was closed for a newer one
                    self._hear(self._guests[key.fileobj])
            for guest in list(self._guests.values()):
                if guest.until > time.monotonic():
                    break
                self._close(guest.connection)

    def _accept(self) -> None:
        try:
            connection, place = self._listening.accept()
        except BlockingIOError:  # it has gone again
            return
        except OSError:  # no descriptor is left, for example
            time.sleep(_PAUSE)
            return
        connection.setblocking(False)
        if len(self._guests) >= _MOST_GUESTS:
            self._close(next(iter(self._guests)))
        self._guests[connection] = _Guest(connection, place[0], time.monotonic() + _GUEST_SECONDS, bytearray())
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, guest: _Guest) -> None:
        try:
            part = guest.connection.recv(_LONGEST_LINE)
            guest.received.extend(part)
            if part and len(guest.received) <= _LONGEST_LINE:
                if guest.received.endswith(b"\n"):
                    guest.connection.send(self._answer(read(bytes(guest.received)), guest.host).line())
                return  # whoever closes first keeps the port for a while, and TensorFlow's server needs this one
        except (OSError, ValueError):
            pass
        self._close(guest.connection)

    def _close(self, connection: socket.socket) -> None:
        del self._guests[connection]
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.close()
