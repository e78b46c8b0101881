"""What the documents say of settings and commands is what the code has."""

import re
from collections.abc import Mapping

import pytest

import consumer.metrics
import ingest.metrics
from docs.tables import ROOT, TABLES, rendered


@pytest.mark.parametrize("path", TABLES)
def test_generated_tables_are_up_to_date(path: str) -> None:
    """A setting that was added, renamed or moved stands in the documents: run `make docs`."""
    assert (ROOT / path).read_text("utf-8") == rendered(path)


def test_every_link_inside_the_project_leads_somewhere() -> None:
    """A reader who follows a relative link finds a file."""
    dead = [
        f"{page.name}: {target}"
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/**/*.md")]
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_both_sides_of_an_alarm_have_the_same_labels() -> None:
    """Prometheus joins what `and` stands between by all labels: a side with one more never meets the other."""
    text = (ROOT / "docs/OPERATIONS.md").read_text("utf-8")
    joined = [found for found in re.findall(r"^\| [^|]+ \| `([^`]+)`", text, re.MULTILINE) if " and " in found]

    assert len(joined) >= 2
    for expression in joined:
        sides = [_labels_of(side) for side in expression.split(" and ")]
        assert all(side == sides[0] for side in sides), expression


def _labels_of(expression: str) -> set[str]:
    """Return the labels of our own that the samples of an expression have."""
    (name,) = re.findall(r"headrace_(ingest_\w+|consumer_\w+)", expression)
    service, _, metric = name.partition("_")
    metrics: Mapping[str, ingest.metrics.Metric | consumer.metrics.Metric] = {
        "ingest": ingest.metrics.METRICS,
        "consumer": consumer.metrics.METRICS,
    }[service]  # type: ignore[assignment]  # each service has its own type
    without = re.search(r"without \(([^)]*)\)", expression)
    dropped = set(re.split(r",\s*", without[1])) if without else set()
    return set() if re.match(r"(sum|max|min) ?\(", expression) else set(metrics[metric].labels) - dropped


def test_the_makefile_has_at_most_ten_targets_and_each_is_explained() -> None:
    """`make` lists what there is on one screen."""
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):", text, flags=re.MULTILINE)

    assert len(targets) <= 10
    assert re.findall(r"^([a-z]+):.* ## ", text, flags=re.MULTILINE) == targets
