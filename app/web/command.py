"""`web`: the same app in a browser, served on this machine."""

import ipaddress
import os
import sys
from typing import Annotated

from cyclopts import Parameter

from app.terminal.layout import Console
from utils.errors import ExitCode, HatcheryError, RefusedError
from utils.ports import free_port, listen

_HOST, _PORT = "127.0.0.1", 8000


def web(
    *,
    host: Annotated[str, Parameter(help="Address to listen on")] = _HOST,
    port: Annotated[int, Parameter(help="Port; 0 takes a free one")] = _PORT,
    open_browser: Annotated[
        bool, Parameter(name="--open", negative="--no-open", help="Open the browser")
    ] = True,
    public: Annotated[
        bool, Parameter(help="Allow an address that other machines reach", negative=())
    ] = False,
) -> int:
    """Serve the app to browsers of this machine until Ctrl-C; jobs go on."""
    if not (public or loopback(host)):
        raise RefusedError(
            "Other machines could drive the app, unencrypted.",
            found=f"--host {host}",
            remedy=f"from elsewhere: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE, and leave "
            "--host away; in a network you trust: add --public",
        )
    from app.web.server import Server  # aiohttp, 0.2 s

    try:
        socket = listen(host, port)
    except (OSError, OverflowError) as error:
        raise HatcheryError(
            f"{host}:{port} cannot be served: {_reason(error)}.",
            remedy="{}",
            commands=[("web", "--port", str(free_port(_HOST, port)))],
        ) from error
    server = Server(socket)
    console = Console(stderr=True)
    console.say(
        f"{console.sign('●')} The app is served; whoever has this address drives it", "bold"
    )
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    console.say("  stop: Ctrl-C; jobs go on", "dim")
    server.run(browser=open_browser and _has_screen())
    return ExitCode.DONE


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip(".")


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_screen() -> bool:
    """Whether a browser would open in a window; one in the terminal would be in the way."""
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
