"""Grafana's dashboard and Prometheus' rules ask for metrics that there are, in words that promtool understands."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sweep.monitor.prometheus import METRICS
from tests.monitoring import MONITORING, exported, expressions, filled_in, panels

OURS = re.compile(r"\bray_sweep_[a-z_]+")
TAGS = {exported(metric): {*metric.tags, "SessionName"} for metric in METRICS}


def promtool(*arguments: str, cwd: Path = MONITORING) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alert_expressions() -> str:
    lines = (MONITORING / "alerts.yml").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("text", ["\n".join(expressions()), alert_expressions()], ids=["grafana.json", "alerts.yml"])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    asked = set(OURS.findall(text))
    assert asked
    assert asked <= set(TAGS)


def test_the_dashboard_shows_every_metric() -> None:
    assert set(OURS.findall("\n".join(expressions()))) == set(TAGS)


@pytest.mark.parametrize("expression", expressions())
def test_a_series_is_told_apart_by_tags_that_it_has(expression: str) -> None:
    for name, matchers in re.findall(r"(ray_sweep_[a-z_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)=", matchers)) <= TAGS[name]
    for grouped, name in re.findall(r"by \(([^)]*)\) \((ray_sweep_[a-z_]+)", expression):
        assert set(grouped.split(", ")) <= TAGS[name]


def test_the_dashboard_is_one_that_grafana_can_place() -> None:
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    shown = panels()
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(shown))) - {"__rate_interval"}
    assert used <= variables


def test_legends_name_tags_that_the_expression_keeps() -> None:
    targets: list[dict[str, Any]] = [target for panel in panels() for target in panel.get("targets", [])]
    assert len(targets) > 10
    for target in targets:
        kept = {tag for grouped in re.findall(r"by \(([^)]*)\)", target["expr"]) for tag in grouped.split(", ")}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, target


def test_promtool_accepts_the_dashboards_expressions(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:expression:{number}", "expr": filled_in(expression)}
        for number, expression in enumerate(expressions())
    ]
    # JSON is YAML.
    (tmp_path / "dashboard.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "dashboard.yml", cwd=tmp_path)


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    alerts = re.findall(r"^ *- alert: (\w+)$", (MONITORING / "alerts.yml").read_text(), flags=re.MULTILINE)
    assert f"{len(alerts)} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_alerts_come_when_they_should_and_not_before() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_has_a_test_and_a_paragraph() -> None:
    alerts = re.findall(r"^ *- alert: (\w+)$", (MONITORING / "alerts.yml").read_text(), flags=re.MULTILINE)
    tested = (MONITORING / "alerts_test.yml").read_text()
    told = (MONITORING.parent / "docs" / "monitoring.md").read_text()
    assert len(alerts) == 8
    for alert in alerts:
        # Once it fires, and once it does not.
        found = re.findall(rf"alertname: {alert}, exp_alerts: \[\]|alertname: {alert}\n +exp_alerts:\n", tested)
        assert len({text[-3:] for text in found}) == 2, alert
        assert f"`{alert}`" in told


def test_the_document_names_every_metric() -> None:
    told = (MONITORING.parent / "docs" / "monitoring.md").read_text()
    assert [exported(metric) for metric in METRICS if f"`{exported(metric)}`" not in told] == []
