"""Ports of this machine that a server can have."""

import errno
import socket

_TRIED = 100
_LAST = 65535


def free_port(host: str, above: int) -> int:
    """The first port over `above` that a server could have now; 0, which means any, where a
    hundred are taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(max(above, 1023) + 1, min(above + _TRIED, _LAST) + 1):
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                return port  # the address is at fault, not the port
        else:
            return port
    return 0
