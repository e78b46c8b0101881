"""Counts of what a JSON text holds, against a walk through the value."""

import json
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ingest.events.structure import count_names, count_nodes, may_have_names
from tests.property.strategies import texts, values

pytestmark = pytest.mark.timeout(900)  # for HYPOTHESIS_PROFILE=long

# Strings of what makes up JSON: marks, quotes and escapes.
tricky = st.text(st.sampled_from(list(',[]{}:"\\/ \n\u00e9x')), max_size=20)
trees = st.recursive(
    st.none() | st.integers(-9, 9) | tricky,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(tricky, inner, max_size=5),
    max_leaves=16,
)


def nodes_of(value: Any) -> int:
    """Count values, an empty container twice."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if items is None else 1 + max(1, sum(map(nodes_of, items)))


def members_of(value: Any) -> int:
    """Count the members of an event, with those of the objects in it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (len(value) if isinstance(value, dict) else 0) + sum(map(members_of, inside))


def paths_of(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the distinct paths of a value."""
    if isinstance(value, list):
        return {found for item in value for found in paths_of(item, path)}
    if not isinstance(value, dict):
        return set()
    return {(*path, name) for name in value} | {
        found for name, item in value.items() for found in paths_of(item, (*path, name))
    }


@given(trees | values, st.booleans(), st.sampled_from([None, 1]))
def test_the_count_is_that_of_the_value(value: Any, is_ascii: bool, indent: int | None) -> None:  # noqa: FBT001  (hypothesis gives it)
    """Never fewer, and exact where the bound is reached: one less is too many, however the text is written."""
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    nodes = nodes_of(value)

    assert count_nodes(text, nodes) == nodes
    assert count_nodes(text, nodes - 1) == nodes
    assert nodes <= count_nodes(text, 10**9)


@given(st.binary(max_size=80) | st.text(st.sampled_from(list(',[]{}:"\\x')), max_size=80).map(str.encode))
def test_no_text_breaks_the_count(text: bytes) -> None:
    """What is no JSON has some count, at most the bound and one."""
    assert 1 <= count_nodes(text, 5) <= 6


events = st.lists(st.dictionaries(texts, trees | values, max_size=8) | trees, max_size=5)


@given(events, st.integers(1, 12), st.integers(1, 12))
def test_names_are_those_of_the_events(sent: list[Any], members_max: int, paths_max: int) -> None:
    """Counted as a plain walk counts them; and who says that there can't be too many is right."""
    text = json.dumps({"messageBody": sent}).encode()
    members, paths = count_names(sent, 100)

    assert members == list(map(members_of, sent))
    assert paths == len(paths_of(sent))
    if not may_have_names(text, sent, members_max, paths_max):
        event("no look needed")
        assert max(members, default=0) <= members_max
        assert paths <= paths_max
