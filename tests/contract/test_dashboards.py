"""The dashboards are those of their program, and ask for what the services show."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import consumer.metrics
import consumer.operations.canary
import ingest.metric_table
from deploy.grafana.dashboards import DIRECTORY, SOURCE, built
from deploy.grafana.panels import BOARDS
from tests.support.containers import ROOT
from tests.support.promtool import check

RULES: Final = ROOT / "deploy/prometheus/headrace.rules.yml"
OF_SCRAPES: Final = {"job", "instance", "le"}
SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("_total",)}


def queries() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries, as Prometheus gets them."""
    for uid, board in BOARDS.items():
        for panels in board.rows.values():
            for panel in panels:
                for expression in panel.queries.values():
                    yield f"{uid}: {panel.title}", expression.replace("$__rate_interval", "1m")


def declared() -> dict[str, set[str]]:
    """Return the labels of every series of the services, and of every recording rule, by its name."""
    found: dict[str, set[str]] = {"up": set(OF_SCRAPES)}
    consumer_tables = (
        (consumer.metrics, consumer.metrics.PREFIX),
        (consumer.operations.canary, consumer.operations.canary.PREFIX),
    )
    for module, prefix in consumer_tables:
        for name, metric in {**module.METRICS, "build_info": consumer.metrics.BUILD_INFO}.items():
            found |= {f"{prefix}{name}{suffix}": set(metric.labels) | OF_SCRAPES for suffix in SUFFIXES[metric.kind]}
    for name, metric in consumer.metrics.PROCESS_METRICS.items():
        found |= {f"{name}{suffix}": OF_SCRAPES for suffix in SUFFIXES[metric.kind]}
    ours = ingest.metric_table
    for name, known in {**ours.METRICS, "build_info": ours.BUILD_INFO, **ours.PROCESS_METRICS}.items():
        suffixes = SUFFIXES["histogram"] if known.kind == "histogram" else ("",)
        found |= {f"{ours.full_name(name)}{suffix}": set(known.labels) | OF_SCRAPES for suffix in suffixes}
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        found |= {rule["record"]: set(rule.get("labels", {})) for rule in group["rules"] if "record" in rule}
    return found


def unknown(expression: str) -> set[str]:
    """Return the names and labels of an expression that nothing shows."""
    series, bad = declared(), set()
    bare = re.sub(r'"[^"]*"', '""', expression)
    names = set(re.findall(r"\b(?:headrace[\w:]*|process_\w+|up)\b", bare))
    labels = {label for group in re.findall(r"\{([^}]*)\}", bare) for label in re.findall(r"(\w+)\s*[=!]", group)}
    labels |= {word for group in re.findall(r"(?:by|without) \(([^)]*)\)", bare) for word in re.findall(r"\w+", group)}
    bad |= names - series.keys()
    known = set().union(*(series.get(name, set()) for name in names))
    return bad | {label for label in labels - known if label != "alertname"}


@pytest.mark.parametrize("uid", BOARDS)
def test_the_files_are_what_the_program_makes(uid: str) -> None:
    """A change of panels.py stands in the JSON too: run `make docs`."""
    assert (DIRECTORY / f"{uid}.json").read_text("utf-8") == built(uid, BOARDS[uid])


def test_no_other_file_is_there() -> None:
    """A dashboard that was taken out of the program is gone."""
    assert {path.stem for path in DIRECTORY.iterdir()} == set(BOARDS)


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_asks_the_provisioned_source_and_has_a_place(uid: str) -> None:
    """Grafana finds the datasource by its uid; no panel hides another one."""
    dashboard = json.loads((DIRECTORY / f"{uid}.json").read_text("utf-8"))
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    cells = [cell for panel in dashboard["panels"] for cell in _cells(panel["gridPos"])]

    assert source["uid"] == SOURCE.uid
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert len(panels) == sum(map(len, BOARDS[uid].rows.values()))
    assert len(cells) == len(set(cells))


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            assert x < 24
            yield x, y


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    """As recording rules, promtool accepts them."""
    rules = [{"record": f"panel:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")

    assert check(path) == ""


def test_every_name_and_label_of_a_query_exists() -> None:
    """In the tables of the metrics, which tests hold against what the services show."""
    assert {title: bad for title, query in queries() if (bad := unknown(query))} == {}


def test_every_name_and_label_of_a_rule_exists() -> None:
    """Alerts and recording rules alike."""
    rules: list[Any] = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]

    assert {rule.get("alert", rule.get("record")): bad for rule in rules if (bad := unknown(rule["expr"]))} == {}


@pytest.mark.parametrize(
    ("query", "bad"),
    [
        ("sum(headrace_ingest_event_total)", {"headrace_ingest_event_total"}),
        ('headrace_consumer_partitions{status="owned"}', {"status"}),
        ("sum by (client_id) (rate(headrace_ingest_events_by_client_total[5m]))", {"client_id"}),
        ("headrace:nothing:ratio_rate1h", {"headrace:nothing:ratio_rate1h"}),
    ],
)
def test_a_slip_of_a_name_would_be_found(query: str, bad: set[str]) -> None:
    """The check itself works."""
    assert unknown(query) == bad


@pytest.mark.parametrize("uid", BOARDS)
def test_every_legend_names_labels_that_its_query_keeps(uid: str) -> None:
    """A legend in braces that the query has summed away would stay empty."""
    for panels in BOARDS[uid].rows.values():
        for panel in panels:
            for legend, query in panel.queries.items():
                kept = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in re.findall(r"\w+", group)}
                whole = set() if re.search(r"\b(?:sum|max|min|count)\b", query) else set().union(*declared().values())
                assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept | whole | OF_SCRAPES, (panel.title, legend)


def test_the_scraper_and_the_dashboards_agree_on_the_jobs() -> None:
    """Rules and panels go by the names of jobs that prometheus.yml has, and its targets are services of compose."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    asked = {job for _, query in queries() for job in re.findall(r'job="([^"]+)"', query)}
    hosts = {
        host.partition(":")[0]
        for job in jobs.values()
        for named in (*job.get("static_configs", ()), *job.get("dns_sd_configs", ()))
        for host in named.get("targets", named.get("names"))
    }

    assert asked <= jobs.keys()
    assert jobs.keys() == {"headrace-ingest", "headrace-consumer", "headrace-canary"}
    assert hosts <= compose.keys()
    assert config["rule_files"] == [RULES.name]
