"""Writes the generated tables between their markers (`make docs`). A test compares the documents with them."""

import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

import consumer.metrics
import consumer.operations.canary
import consumer.settings
import ingest.metric_table
import ingest.settings
from schemas.event import read_catalogue

ROOT: Final = Path(__file__).resolve().parent.parent


def settings_table(prefix: str, settings: type[msgspec.Struct]) -> str:
    """Return a Markdown table of a settings struct: variable, default, meaning."""
    hints = typing.get_type_hints(settings, include_extras=True)
    rows = [
        f"| `{prefix}{field.name.upper()}` | {_default(field)} | {_meaning(hints[field.name])} |"
        for field in msgspec.structs.fields(settings)
    ]
    return "\n".join(("| variable | default | meaning |", "|---|---|---|", *rows))


def _default(field: Any) -> str:
    if field.required:
        return "required"
    return f"`{field.default}`" if field.default not in ("", None) else "none"


def _meaning(hint: Any) -> str:
    metas = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    return next((meta.description for meta in metas if isinstance(meta, Meta) and meta.description), "")


def event_types_table() -> str:
    """Return a Markdown table of the catalogue's event types."""
    rows = [
        f"| `{name}` | {kind.sent_when} | {', '.join(f'`{field}`' for field in kind.fields) or 'none'} |"
        for name, kind in read_catalogue().types.items()
    ]
    return "\n".join(("| eventType | sent when | fields |", "|---|---|---|", *rows))


def event_fields_table() -> str:
    """Return a Markdown table of the catalogue's fields, with their known values."""
    rows: list[str] = []
    for name, field in read_catalogue().fields.items():
        length = f", {field.length_min} to {field.length_max} characters" if field.length_max is not None else ""
        known = f" Known: {', '.join(field.known)}." if field.known else ""
        rows.append(f"| `{name}` | {field.type}{length} | {field.doc}{known} |")
    return "\n".join(("| field | type | meaning |", "|---|---|---|", *rows))


def event_properties_table() -> str:
    """Return a Markdown table of the documented members of `properties`."""
    rows = [f"| `{name}` | {known.type} | {known.doc} |" for name, known in read_catalogue().properties.items()]
    return "\n".join(("| member | type | meaning |", "|---|---|---|", *rows))


def ingest_metrics_table() -> str:
    """Return a Markdown table of the ingress's metrics."""
    of = ingest.metric_table
    return _metrics_table({**of.METRICS, "build_info": of.BUILD_INFO, **of.PROCESS_METRICS})


def consumer_metrics_table() -> str:
    """Return a Markdown table of the workers' metrics."""
    of = consumer.metrics
    return _metrics_table({**of.METRICS, "build_info": of.BUILD_INFO, **of.PROCESS_METRICS})


def canary_metrics_table() -> str:
    """Return a Markdown table of the canary's metrics."""
    return _metrics_table(consumer.operations.canary.METRICS)


def _metrics_table(metrics: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {metric.kind} | {', '.join(metric.labels) or 'none'} | {metric.help} |"
        for name, metric in metrics.items()
    ]
    return "\n".join(("| metric | kind | labels | meaning |", "|---|---|---|---|", *rows))


Table = Callable[[], str]
TABLES: Final[dict[str, dict[str, Table]]] = {
    "docs/SETTINGS.md": {
        "ingest-settings": lambda: settings_table("INGEST_", ingest.settings.Settings),
        "consumer-settings": lambda: settings_table("CONSUMER_", consumer.settings.Settings),
    },
    "docs/EVENTS.md": {
        "event-types": event_types_table,
        "event-fields": event_fields_table,
        "event-properties": event_properties_table,
    },
    "docs/OPERATIONS.md": {"consumer-metrics": consumer_metrics_table},
    "docs/SLO.md": {"canary-metrics": canary_metrics_table},
    "docs/TELEMETRY.md": {"ingest-metrics": ingest_metrics_table},
}


def rendered(path: str) -> str:
    """Return a document with its tables generated again.

    Raises:
        ValueError: the document lacks the markers of a table.
    """
    text = (ROOT / path).read_text("utf-8")
    for name, table in TABLES[path].items():
        text = replace_table(text, name, table())
    return text


def replace_table(text: str, name: str, table: str) -> str:
    """Return a text with another table between the markers of that name.

    Raises:
        ValueError: it has no such markers.
    """
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not (begin and end):
        raise ValueError(f"{name}: the markers of this table are missing")
    return f"{before}{begin}{table}\n{end}{after}"


def main() -> None:
    """Write every document's tables."""
    for path in TABLES:
        (ROOT / path).write_text(rendered(path), "utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
