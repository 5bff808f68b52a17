"""What the folder `monitoring` holds, as tests read it."""

import json
from pathlib import Path
from typing import Any

from sweep.monitor.prometheus import Metric


def exported(metric: Metric) -> str:
    """Return the name that Prometheus sees."""
    return f"ray_{metric.name}" + ("_total" if metric.kind == "counter" else "")


MONITORING = Path(__file__).resolve().parents[1] / "monitoring"


def panels() -> list[dict[str, Any]]:
    """Return the panels of Grafana's dashboard."""
    found: list[dict[str, Any]] = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Return what the panels ask Prometheus."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def filled_in(expression: str, run: str = ".*") -> str:
    """Return a panel's expression as Grafana sends it, for all sessions of a cluster."""
    for variable, value in (("SessionName", ".*"), ("run", run), ("__rate_interval", "40s")):
        expression = expression.replace(f"${variable}", value)
    return expression
