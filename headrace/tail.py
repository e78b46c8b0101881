"""`headrace tail`: shows events as they arrive on the topic, decoded and filtered."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from consumer.delivery.ports import Partition, Record
from consumer.errors import Fatal
from consumer.kafka.admin import Cluster, Topic
from consumer.kafka.scan import END, TopicReader
from consumer.operations.preflight import find_topics
from consumer.parts import kafka_properties
from headrace.arguments import condition, seconds
from headrace.services import Services
from headrace.stations import event_in, moment
from headrace.terminal import plain
from schemas.arguments import moment_ms, partition, whole_number
from schemas.codec import LETTER_HEADER

ABOUT: Final = """
Shows events as they arrive in Kafka, before they are rows: a line for each, or whole with --json.
It begins with the next event, or with --from-time or --from-offset earlier, and goes on until
Ctrl-C, --count or --for-s. It joins no group and commits nothing. Bytes that are no event are
shown too, unless a filter is given. --dead-letters shows what was refused, with the reason.

--where compares any field of the event, or a member of its properties.

Exit code: 0; 1 when --for-s was over before --count events came; 2 a setting or an argument is
wrong; 3 no broker answers.

  headrace tail --client web --type CLICK
  headrace tail --from-time 2026-01-31T09:00 --where userId=4711 --json
  headrace tail --count 1 --for-s 30 --event-id 0198c1f2-7d1e-7a60-9c39-6f0d1b6f8a11
"""
_OFFSET_MAX: Final = 10**18 - 1
_COUNT_MAX: Final = 10**9
_FOR_EVER_S: Final = 10.0**9
_TEXT_MAX: Final = 80


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--client", action="append", default=[], metavar="ID", help="only of this clientId; repeatable")
    parser.add_argument("--type", action="append", default=[], help="only of this eventType; repeatable")
    parser.add_argument(
        "--event-id", action="append", default=[], metavar="ID", help="only this eventId or pingId; repeatable"
    )
    parser.add_argument(
        "--where", type=condition, action="append", default=[], metavar="NAME=VALUE", help="only with this"
    )
    parser.add_argument(
        "--partition",
        type=partition,
        action="append",
        default=[],
        metavar="TOPIC/NUMBER",
        help="only this one; repeatable",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--from-time", type=moment_ms, metavar="TIME", help="begin at this Kafka timestamp (ISO 8601, UTC)"
    )
    start.add_argument(
        "--from-offset",
        type=whole_number(0, _OFFSET_MAX),
        metavar="OFFSET",
        help="begin at this offset; needs one --partition",
    )
    parser.add_argument("--count", type=whole_number(1, _COUNT_MAX), metavar="N", help="end after so many")
    parser.add_argument("--for-s", type=seconds, metavar="SECONDS", help="end after so many seconds")
    parser.add_argument("--dead-letters", action="store_true", help="show dead letters instead of events")
    parser.add_argument("--json", action="store_true", help="one JSON object per line, with everything")
    parser.set_defaults(call=run)


class Shown(NamedTuple):
    """A record, and the event in it; None when its bytes are none."""

    record: Record
    event: Mapping[str, Any] | None


class Filter(NamedTuple):
    """What to show; an empty part takes everything."""

    clients: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    conditions: tuple[tuple[str, str], ...] = ()

    def takes(self, event: Mapping[str, Any] | None) -> bool:
        """Tell whether an event is shown; unreadable bytes are shown when there is no filter."""
        if event is None:
            return self == Filter()
        return (
            (not self.clients or str(event.get("clientId", "")) in self.clients)
            and (not self.types or str(event.get("eventType", "")).upper() in self.types)
            and (
                not self.ids
                or not self.ids.isdisjoint(str(event.get(name, "")).lower() for name in ("eventId", "pingId"))
            )
            and all(_text(_member(event, name)) == value for name, value in self.conditions)
        )


def _member(event: Mapping[str, Any], name: str) -> object:
    if name in event:
        return event[name]
    properties = event.get("properties", "")
    try:
        members = json.loads(properties) if isinstance(properties, str) and properties else properties
    except (ValueError, RecursionError):
        return None
    return members.get(name) if isinstance(members, dict) else None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def run(services: Services, arguments: argparse.Namespace) -> int:
    """Show events until told to stop.

    Raises:
        ValueError: a setting or an argument is wrong.
        ConsumerError: no broker answers, or it refuses.
    """
    if why := services.missing("BOOTSTRAP_SERVERS"):
        raise ValueError(why)
    if arguments.from_offset is not None and len(arguments.partition) != 1:
        raise ValueError("argument --from-offset: name one --partition; an offset belongs to a single partition")
    wanted = Filter(
        frozenset(arguments.client),
        frozenset(name.upper() for name in arguments.type),
        frozenset(text.lower() for text in arguments.event_id),
        tuple(arguments.where),
    )
    deadline_s = time.monotonic() + (arguments.for_s or _FOR_EVER_S)
    left = arguments.count
    try:
        for shown in _shown(services, arguments, deadline_s):
            if not wanted.takes(shown.event):
                continue
            print(as_json(shown) if arguments.json else line_of(shown), flush=True)
            left = None if left is None else left - 1
            if left == 0:
                return 0
    except KeyboardInterrupt:
        return 0
    return 1 if left else 0


def _shown(services: Services, arguments: argparse.Namespace, deadline_s: float) -> Iterator[Shown]:
    settings, schema_of = services.consumer(), services.schemas().schema_of
    topic = settings.dead_letter_topic if arguments.dead_letters else settings.topic
    properties = kafka_properties(settings)
    places = _places(find_topics(Cluster(properties, settings.group_id), [topic]), arguments.partition)
    with TopicReader(properties, f"{settings.group_id}.tail") as reader:
        starts = dict.fromkeys(places, END if arguments.from_offset is None else arguments.from_offset)
        if arguments.from_time is not None:
            starts = reader.offsets_at(places, arguments.from_time)
        for record in reader.follow(starts, deadline_s):
            if record is not None:
                yield Shown(record, event_in(record.value, schema_of))


def _places(topics: Mapping[str, Topic], named: Sequence[tuple[str, int]]) -> list[Partition]:
    known = [Partition(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
    wanted = [Partition(*one) for one in named]
    if strange := [one for one in wanted if one not in known]:
        raise Fatal(f"there is no {strange[0].topic}/{strange[0].number}")
    return wanted or known


def _place(record: Record) -> str:
    return f"{record.partition.topic}/{record.partition.number}/{record.offset}"


def line_of(shown: Shown) -> str:
    """Return one line: when, where, what; control characters of a client's are escaped."""
    record, event = shown
    written = moment(record.timestamp_ms) if record.timestamp_ms >= 0 else "(no time)"
    parts = [written, _place(record)]
    if reason := _headers(record).get(f"{LETTER_HEADER}reason"):
        parts.append(f"{reason}: {_headers(record).get(f'{LETTER_HEADER}error', '')}")
    if event is None:
        return plain("  ".join([*parts, f"not readable, {len(record.value)} bytes"]))
    names = ("eventType", "clientId", "anonId", "userId", "eventId", "url")
    said = [str(event[name])[:_TEXT_MAX] for name in names if event.get(name)]
    return plain("  ".join([*parts, *said]))


def _headers(record: Record) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def as_json(shown: Shown) -> str:
    """Return the record and its event, or its bytes in hexadecimal digits."""
    record, event = shown
    place = {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "headers": _headers(record),
    }
    value = {"event": event} if event is not None else {"bytes": record.value.hex()}
    return json.dumps({**place, **value}, default=str)
