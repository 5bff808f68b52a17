"""How a cluster's dashboard is seen from the machine at which somebody sits."""

from urllib.parse import urlsplit

LOCAL_PORT = 8265
"""Where the near end of a tunnel listens: Ray's own port for its dashboard."""


def tunnel_command(dashboard: str) -> str:
    """Return what to type on one's own machine, after which http://127.0.0.1:8265 is the dashboard.

    HEAD stays to be filled in: the address by which the nodes know their head is seldom one that others can reach.

    Args:
        dashboard: its address as the head knows it, `http://HOST:PORT`.

    Raises:
        ValueError: the dashboard's address has no host or no port.
    """
    parts = urlsplit(dashboard)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"The dashboard's address must be http://HOST:PORT, got {dashboard!r}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    elsewhere = "" if parts.port == LOCAL_PORT else f" --remote-port {parts.port}"
    return f"ray dashboard cluster.yaml{elsewhere}, or: ssh -L {LOCAL_PORT}:{host}:{parts.port} HEAD"
