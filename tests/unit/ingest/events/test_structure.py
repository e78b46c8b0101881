"""What a JSON text holds, counted in its bytes."""

import json

import pytest

from ingest.events.structure import count_names, count_nodes, may_have_names

MANY = 10**9


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (b"0", 1),
        (b"[]", 2),
        (b"[[]]", 3),
        (b"[1,2,3]", 4),
        (b'{"a":1,"b":[2,3]}', 5),
        (b'{"a":{"b":{"c":0}}}', 4),
    ],
)
def test_each_value_counts_and_an_empty_container_twice(text: bytes, nodes: int) -> None:
    """An object, an array, a string, a number: one each."""
    assert count_nodes(text, MANY) == nodes


@pytest.mark.parametrize(
    "text",
    [
        rb'["a,[{",",","\",\",","\\\\",0]',
        rb'["\\",",","\\\"",",",0]',
        b'["' + b"," * 200_000 + b'","' + b'\\",' * 70_000 + b'","\\\\",0,0]',
        b'["' + b"\\\\" * 65_535 + b'\\",' * 9 + b'",1,2,3,4]',
    ],
)
def test_marks_inside_strings_are_none(text: bytes) -> None:
    """However they are escaped, and wherever a piece of the text is cut."""
    assert count_nodes(text, len(json.loads(text)) + 1) == len(json.loads(text)) + 1
    assert count_nodes(text, len(json.loads(text))) == len(json.loads(text)) + 1


def test_beyond_the_bound_the_count_ends() -> None:
    """The bound and one, whatever else there is."""
    assert count_nodes(b"[" + b"0," * 1000, 10) == 11
    assert count_nodes(b'["' + b'","' * 1000, 10) == 11
    assert count_nodes(b'"' * 1000 + b"," * 11, 10) == 11


def test_a_text_of_many_pieces_is_counted_whole() -> None:
    """Marks at the ends of what is counted at once are neither lost nor counted twice."""
    text = b"[" + b'"",' * 100_000 + b"{}]"

    assert count_nodes(text, 10**9) == 100_003


def test_members_are_those_of_all_objects_of_an_event() -> None:
    """Also of objects in arrays; what is no object has none."""
    events = [{"a": 1, "b": {"c": [{"d": 1, "e": []}, {"d": 2}]}}, {}, 5, None, [{"a": 1}]]

    assert count_names(events, 10)[0] == [6, 0, 0, 0, 1]


def test_a_path_counts_once_for_all_events() -> None:
    """The same names at another place are another path; elements of an array share theirs."""
    assert count_names([{"a": 1, "b": 2}, {"b": {"a": 1}}, {"b": [{"a": 1}, {"c": 1}]}, {"c": 1}], 10)[1] == 5
    assert count_names([{"a": {"b": 1}}, {"b": {"a": 1}}], 10)[1] == 4
    assert count_names([{"a": 1}, {"a": {"b": 1}}, {"a": 1}], 10)[1] == 2


def test_what_lies_too_deep_is_not_counted() -> None:
    """It is refused for that; and no depth overflows the stack."""
    deep: dict[str, object] = {"x": 1}
    for _ in range(900):
        deep = {"x": deep}

    assert count_names([deep], 30) == ([30], 30)


def test_few_names_need_no_look() -> None:
    """A request whose colons are few, or whose events have few members each, is not looked through."""
    few = [{f"x{n}": "http://a:b" for n in range(20)}] * 40

    assert not may_have_names(json.dumps(few[:1]).encode(), few[:1], 1000, 2000)
    assert not may_have_names(json.dumps(few).encode(), few, 2000, 2000)
    assert may_have_names(json.dumps(few).encode(), few, 500, 9000)
    assert may_have_names(json.dumps(few).encode(), few, 9000, 19)
