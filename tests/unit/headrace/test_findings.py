"""What follows from what the stations say."""

import pytest

from headrace.findings import Finding, State, Station, verdict

AT = "events/3/12"
_ABSENT = [Finding(station, State.ABSENT, "") for station in Station if station is not Station.GROUP]
_IN_LOG = Finding(Station.TOPIC, State.FOUND, "", AT)


def _instead(*findings: Finding) -> list[Finding]:
    """Return what all stations say: absent, but for these."""
    named = {finding.station for finding in findings}
    return [*[one for one in _ABSENT if one.station not in named], *findings]


@pytest.mark.parametrize(
    ("station", "where"), [(Station.ROW, "row"), (Station.DEAD_LETTER, "dead_letter"), (Station.SPOOL, "spool")]
)
def test_where_it_is_found_it_is(station: Station, where: str) -> None:
    """Whatever the other stations say, and whether they can be asked or not."""
    found = Finding(station, State.FOUND, "", AT)
    away = [Finding(other, State.UNKNOWN, "away") for other in Station if other is not station]

    for rest in (_instead(found), [found, *away]):
        assert (verdict(rest).where, verdict(rest).code) == (where, 0)


@pytest.mark.parametrize("station", [Station.SPOOL, Station.TOPIC, Station.ROW, Station.DEAD_LETTER])
def test_a_station_that_could_not_be_asked_is_never_one_where_it_is_not(station: Station) -> None:
    """Then nobody knows, and a script can tell that from "nowhere"."""
    told = verdict(_instead(Finding(station, State.UNKNOWN, "away")))

    assert (told.where, told.code) == ("unknown", 3)
    assert str(station) in told.sentence


def test_it_is_nowhere_only_when_all_have_said_so() -> None:
    """Exit code 1."""
    assert (verdict(_ABSENT).where, verdict(_ABSENT).code) == ("nowhere", 1)


def test_a_record_that_the_workers_have_not_reached_waits() -> None:
    """It is found, though it has no row yet."""
    told = verdict(_instead(_IN_LOG, Finding(Station.GROUP, State.ABSENT, "7 records to go", AT)))

    assert (told.where, told.code) == ("topic", 0)
    assert "7 records to go" in told.sentence


def test_a_record_that_was_passed_without_a_row_is_missing() -> None:
    """The one verdict that is an alarm: nothing is unknown, and nothing explains it."""
    told = verdict(_instead(_IN_LOG, Finding(Station.GROUP, State.PASSED, "", AT)))

    assert (told.where, told.code) == ("missing", 1)
    assert "audit" in told.sentence


@pytest.mark.parametrize("station", [Station.ROW, Station.DEAD_LETTER])
def test_a_record_that_was_passed_while_the_tables_are_away_is_not_missing(station: Station) -> None:
    """Its row may be there."""
    told = verdict(_instead(_IN_LOG, Finding(Station.GROUP, State.PASSED, "", AT), Finding(station, State.UNKNOWN, "")))

    assert (told.where, told.code) == ("topic", 0)
    assert "unknown" in told.sentence


@pytest.mark.parametrize("station", [Station.ROW, Station.DEAD_LETTER])
def test_what_was_erased_is_no_loss(station: Station) -> None:
    """The table `offsets` has counted it."""
    gone = Finding(station, State.PASSED, "it was there", AT)

    assert verdict([*_instead(_IN_LOG, Finding(Station.GROUP, State.PASSED, "", AT)), gone]).where == "gone"


def test_without_the_group_its_progress_is_unknown() -> None:
    """A record is in Kafka all the same."""
    told = verdict(_instead(_IN_LOG, Finding(Station.GROUP, State.UNKNOWN, "away", AT)))

    assert (told.where, told.code) == ("topic", 0)
    assert "unknown" in told.sentence
