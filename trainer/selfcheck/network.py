"""Check of the addresses on which this worker's port can be reached, from Linux's /proc. Needs no TensorFlow.

TensorFlow's gRPC server asks nobody for a password and listens on every interface, whatever address it is given.
"""

import ipaddress
import pathlib
from collections.abc import Iterable

from trainer.selfcheck.outcome import CheckOutcome, Status

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN = "0A"
_NET = pathlib.Path("/proc/net")


def check(port: int, net: pathlib.Path = _NET) -> CheckOutcome:
    """Warns where this worker's port listens on a public address.

    Args:
      port: of this worker's server.
      net: the system's /proc/net.
    """
    try:
        bound = {address for name in ("tcp", "tcp6") for address in listening(_text(net / name), port)}
        own = [*ipv4_addresses(_text(net / "fib_trie")), *ipv6_addresses(_text(net / "if_inet6"))]
    except OSError as error:
        return CheckOutcome(Status.SKIPPED, f"needs Linux's {net}: {error.strerror}")
    if not bound:
        return CheckOutcome(Status.SKIPPED, f"{net} shows no socket that listens on port {port}")
    reachable = reachable_addresses(bound, own)
    where = f"port {port} listens on {', '.join(map(str, _sorted(bound)))}"
    if public := [address for address in reachable if address.is_global]:
        return CheckOutcome(
            Status.WARNING,
            f"{where}, so whoever reaches {', '.join(map(str, public))}, which is public, can run anything in this "
            "process: its server asks for no password; let a firewall pass the workers only (launch/README.md)",
        )
    inside = ", ".join(str(address) for address in reachable if not address.is_loopback) or "this machine only"
    return CheckOutcome(
        Status.PASS, f"{where}: reachable on {inside}; this machine has no public address of its own there"
    )


def listening(table: str, port: int) -> list[Address]:
    """Addresses of the sockets that listen on a port, from the text of /proc/net/tcp or tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, _, number = fields[1].partition(":")
        if fields[3] == _LISTEN and int(number, 16) == port:
            found.append(_of_hexadecimal(address))
    return found


def ipv4_addresses(fib_trie: str) -> list[Address]:
    """This machine's own IPv4 addresses, from the text of /proc/net/fib_trie."""
    found, last = [], ""
    for line in fib_trie.splitlines():
        before, dashes, address = line.partition("-- ")
        if dashes:
            last = address.strip()
        elif "/32 host LOCAL" in before and last:
            found.append(ipaddress.ip_address(last))
    return list(dict.fromkeys(found))


def ipv6_addresses(if_inet6: str) -> list[Address]:
    """This machine's own IPv6 addresses, from the text of /proc/net/if_inet6."""
    return [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in if_inet6.splitlines() if line.strip()]


def reachable_addresses(bound: Iterable[Address], own: Iterable[Address]) -> list[Address]:
    """Returns those of a machine's own addresses on which a server that is bound to `bound` can be reached."""
    bound, own = list(bound), list(own)
    # A wildcard of IPv6 takes IPv4, too.
    versions = {4, 6} if ipaddress.IPv6Address("::") in bound else {a.version for a in bound if a.is_unspecified}
    named = [_unmapped(address) for address in bound if not address.is_unspecified]
    return _sorted({*named, *(address for address in own if address.version in versions)})


def _unmapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _of_hexadecimal(text: str) -> Address:
    """Linux writes addresses as words of 32 bits in the machine's own order of bytes, which is little-endian."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return _unmapped(ipaddress.ip_address(b"".join(words)))


def _sorted(addresses: Iterable[Address]) -> list[Address]:
    return sorted(set(addresses), key=lambda address: (address.version, int(address)))


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        if path.name in ("tcp6", "if_inet6"):  # a kernel without IPv6
            return ""
        raise
