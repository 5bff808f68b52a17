import pytest

from sweep.cluster.connect import tunnel_command


def test_the_tunnel_leads_to_the_dashboard_on_the_heads_loopback() -> None:
    assert tunnel_command("http://127.0.0.1:8265") == "ray dashboard cluster.yaml, or: ssh -L 8265:127.0.0.1:8265 HEAD"


@pytest.mark.parametrize(
    ("dashboard", "far_end"),
    [("http://10.0.0.5:8266", "8265:10.0.0.5:8266"), ("http://[::1]:8266", "8265:[::1]:8266")],
)
def test_another_port_or_host_is_named(dashboard: str, far_end: str) -> None:
    assert tunnel_command(dashboard) == f"ray dashboard cluster.yaml --remote-port 8266, or: ssh -L {far_end} HEAD"


@pytest.mark.parametrize("dashboard", ["", "127.0.0.1:8265", "http://127.0.0.1"])
def test_an_address_that_is_none_is_refused(dashboard: str) -> None:
    with pytest.raises(ValueError, match=r"The dashboard's address must be http://HOST:PORT, got"):
        tunnel_command(dashboard)
