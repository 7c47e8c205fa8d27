"""Addresses and ports of this machine that a server can have."""

import errno
import socket

TAKEN = (errno.EADDRINUSE, errno.EACCES)
"""What listening answers where the port is at fault; anything else is the address."""

_TRIED = 100
_LAST = 65535


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: the address is not ours or none at all, or the port is taken.
        OverflowError: there is no such port.
    """
    try:
        host.encode("idna")
    except UnicodeError as error:  # the socket itself would raise a TypeError
        raise OSError(errno.EINVAL, "no machine can be called so") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def free_port(host: str, above: int) -> int:
    """The first port over `above` that a server could have now; 0, which means any, where a
    hundred are taken."""
    for port in range(max(above, 1023) + 1, min(above + _TRIED, _LAST) + 1):
        try:
            listen(host, port).close()
        except OSError as error:
            if error.errno not in TAKEN:
                return port
        else:
            return port
    return 0
