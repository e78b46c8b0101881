"""What the stations of an event's way say of it, and what follows from that. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Station(StrEnum):
    """A place where an event may be, in the order of its way."""

    SPOOL = "spool"
    TOPIC = "topic"
    GROUP = "group"
    ROW = "row"
    DEAD_LETTER = "dead letter"


class State(StrEnum):
    """What a station says."""

    FOUND = "found"
    PASSED = "passed"  # it was there, and has gone on or away
    ABSENT = "not there"
    UNKNOWN = "unknown"  # it could not be asked, or not to its end


@dataclass(frozen=True, slots=True)
class Finding:
    """What one station says: the state, a sentence, and the place (a file, topic/partition/offset) if it has one."""

    station: Station
    state: State
    detail: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all stations together say.

    Attributes:
        where: a word for scripts.
        sentence: for people.
        code: the exit code.
    """

    where: str
    sentence: str
    code: int


FOUND: Final = 0
NOT_FOUND: Final = 1
UNKNOWN: Final = 3
_LOST: Final = "run `headrace consumer audit`, which names what is missing"


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return where an event is. A station that could not be asked never counts as one where it is not."""

    def of(station: Station, state: State) -> list[Finding]:
        return [one for one in findings if (one.station, one.state) == (station, state)]

    unknown = [one.station for one in findings if one.state is State.UNKNOWN]
    asked = ", ".join(dict.fromkeys(map(str, unknown)))
    if found := of(Station.ROW, State.FOUND):
        return Verdict("row", f"in the table: {found[0].detail}", FOUND)
    if found := of(Station.DEAD_LETTER, State.FOUND):
        return Verdict("dead_letter", f"a dead letter: {found[0].detail}", FOUND)
    if found := of(Station.SPOOL, State.FOUND):
        return Verdict("spool", f"in the spool of this machine: {found[0].detail}", FOUND)
    if found := of(Station.TOPIC, State.FOUND):
        return _in_the_log(found[0], findings, asked)
    if unknown:
        return Verdict("unknown", f"not found, but these can't say for certain: {asked}", UNKNOWN)
    return Verdict("nowhere", "not found where this has looked; was it answered 201, in this environment?", NOT_FOUND)


def _in_the_log(found: Finding, findings: Sequence[Finding], unknown: str) -> Verdict:
    """Return what becomes of a record of the topic that is no row and no dead letter, as far as is known."""
    group = next((one for one in findings if one.station is Station.GROUP and one.place == found.place), None)
    if group is None or group.state is State.UNKNOWN:
        return Verdict("topic", f"in Kafka at {found.place}; how far the workers are is unknown", FOUND)
    if group.state is State.ABSENT:
        return Verdict("topic", f"in Kafka at {found.place}: {group.detail}", FOUND)
    tables = (Station.ROW, Station.DEAD_LETTER)
    gone = next((one for one in findings if one.station in tables and one.state is State.PASSED), None)
    if gone is not None:
        return Verdict("gone", f"in Kafka at {found.place}: {gone.detail}", FOUND)
    if unknown:
        sentence = f"in Kafka at {found.place}; the workers have passed it, and this is unknown: {unknown}"
        return Verdict("topic", sentence, FOUND)
    return Verdict(
        "missing", f"in Kafka at {found.place}; the workers have passed it, but it has no row: {_LOST}", NOT_FOUND
    )
