"""How much a JSON text holds, counted in its bytes before any object is built of it.

A node is a value: an object, an array, a string, a number, true, false or null. Each follows an opening bracket or a
comma of its container, so there are never more nodes than brackets and commas outside of strings, plus one. An empty
container counts twice, which is about what it costs. Of a text that is no JSON the count means nothing; the parser says
so afterwards.
"""

from collections.abc import Sequence
from typing import Any, Final

try:
    from ingest.events import mark_counter
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True

# All bytes but the marks: without them a text's length is their number.
_NO_MARKS: Final = bytes(set(range(256)).difference(b",[{"))
# Bounds the list of a piece that is split at its quotes, and how long others wait for the interpreter.
_PIECE_BYTES: Final = 64 * 1024


def count_nodes(text: bytes, most: int) -> int:
    """Return how many nodes a JSON text has: never fewer than there are, and at most `most + 1`.

    One pass, 0.05 ns a byte with compiled code and 0.5 without; only a text that has more than `most` marks, some of
    them perhaps inside strings, is read string by string, 6 ns a byte.
    """
    nodes = 1 + marks(text)
    return nodes if nodes <= most else _count_outside_strings(text, most)


def marks(text: bytes) -> int:
    """Return how many bytes of a text are marks: a comma or an opening bracket."""
    return mark_counter.count(text) if IS_COMPILED else marks_in_python(text)


def marks_in_python(text: bytes) -> int:
    """Return what `marks` does."""
    pieces = (text[at : at + _PIECE_BYTES] for at in range(0, len(text), _PIECE_BYTES))
    return sum(len(piece.translate(None, _NO_MARKS)) for piece in pieces)


def _count_outside_strings(text: bytes, most: int) -> int:
    """Count the marks outside of strings, up to `most + 1`.

    Without its escaped characters a text changes between outside and inside at each quote. A text of more quotes than
    names and values of `most` nodes can have is over too, so the number of pieces is bounded.
    """
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    nodes, quotes = 1, 0
    for at in range(0, len(plain), _PIECE_BYTES):
        parts = plain[at : at + _PIECE_BYTES].split(b'"')
        outside = b"".join(parts[quotes % 2 :: 2])
        nodes += marks(outside)
        quotes += len(parts) - 1
        if nodes > most or quotes > 4 * most:
            return most + 1
    return nodes


def count_names(events: Sequence[Any], depth_left: int) -> tuple[list[int], int]:
    """Return the members of each event, with those of the objects in it, and the distinct paths of them all.

    A path is the names that lead from an event to a value; the elements of an array share one. In a column of JSON each
    path is a separate column. What lies deeper than `depth_left` levels is not counted, and what is no object has
    none.
    """
    counter = _NameCounter()
    return [counter.add(event, counter.tree, depth_left) for event in events], counter.paths


def may_have_names(text: bytes, events: Sequence[Any], members: int, paths: int) -> bool:
    """Tell whether an event in a text may have more members, or all together more paths; False is certain.

    Each member has a colon. Those that are no event's own are members of objects inside the events, or part of a
    string. No event has more of them than all together.
    """
    colons = text.count(b":")
    if colons <= min(members, paths):
        return False
    objects = events if set(map(type, events)) == {dict} else [event for event in events if type(event) is dict]
    sizes = list(map(len, objects))
    inner = colons - sum(sizes)
    if max(sizes, default=0) + inner > members:
        return True
    return colons > paths and len(set().union(*objects)) + inner > paths


class _NameCounter:
    """Counts members, and grows a tree of the paths that it has seen."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.paths = 0

    def add(self, value: Any, tree: dict[str, Any], depth_left: int) -> int:
        if depth_left <= 0:
            return 0
        if type(value) is list:
            return sum(self.add(item, tree, depth_left - 1) for item in value)
        if type(value) is not dict:
            return 0
        members = len(value)
        for name, item in value.items():
            if name not in tree:
                tree[name] = None
                self.paths += 1
            if type(item) is dict or type(item) is list:
                branch = tree[name] = tree[name] or {}
                members += self.add(item, branch, depth_left - 1)
        return members
