"""The rates of `headrace top`."""

from headrace.top import Look, rated


def _look(at_s: float, committed: int, end: int) -> Look:
    line = {"topic": "events", "partition": 0, "committed": committed, "end": end, "lag": end - committed}
    return Look(at_s, [line | {"note": "", "waiting_s": 0.0}])


def test_a_rate_is_the_difference_of_two_looks() -> None:
    """Events in by the log's end, events out by the commits."""
    (line,) = rated(_look(10.0, 100, 200), _look(12.0, 150, 240))

    assert (line["in_per_s"], line["out_per_s"], line["lag"]) == (20.0, 25.0, 90)


def test_one_look_has_no_rates() -> None:
    """Not even 0."""
    (line,) = rated(None, _look(10.0, 100, 200))

    assert (line["in_per_s"], line["out_per_s"]) == (None, None)


def test_what_went_back_has_no_rate() -> None:
    """A recreated topic begins at 0 again, and a second reading goes back."""
    (line,) = rated(_look(10.0, 100, 200), _look(12.0, 0, 3))

    assert (line["in_per_s"], line["out_per_s"]) == (None, None)


def test_a_look_without_kafka_has_no_lines() -> None:
    """And the next one no rates."""
    away = Look(10.0, unknown=("Kafka: away",))

    assert rated(_look(8.0, 1, 1), away) == []
    assert rated(away, _look(12.0, 1, 1))[0]["in_per_s"] is None
