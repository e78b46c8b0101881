"""One event under one key has one id, in whichever form it is written; another event has another."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

from hypothesis import assume, given
from hypothesis import strategies as st

from ingest.events.ids import canonical_json
from ingest.events.parsing import parse

BLANKS: Final = ("", " ", "\n", "\t ", "\r\n")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4), values, max_size=4)


class Writer:
    """Writes a value as JSON in a form that chance chooses: blanks, order, escapes, exponents, duplicate members."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def write(self, value: Any) -> str:
        """Return a text that parses to the value."""
        if isinstance(value, dict):
            return self._members(value)
        if isinstance(value, list):
            return self._blank("[" + ",".join(map(self.write, value)) + "]")
        if isinstance(value, str):
            return self._blank(self._string(value))
        if isinstance(value, float):
            return self._blank(self._float(value))
        return self._blank(json.dumps(value))

    def _members(self, value: dict[str, Any]) -> str:
        names = self._chance.sample(list(value), len(value))
        pairs = [f"{self.write(name)}:{self.write(value[name])}" for name in names]
        if pairs and self._chance.random() < 0.3:  # the last of two counts
            pairs.insert(0, f"{self.write(names[-1])}:{self.write([1])}")
        return self._blank("{" + ",".join(pairs) + "}")

    def _string(self, text: str) -> str:
        forms: list[Callable[[str], str]] = [
            lambda letter: json.dumps(letter)[1:-1],
            lambda letter: json.dumps(letter, ensure_ascii=False)[1:-1],
            lambda letter: "".join(f"\\u{unit:04X}" for unit in _utf16(letter)),
        ]
        return f'"{"".join(self._chance.choice(forms)(letter) for letter in text)}"'

    def _float(self, number: float) -> str:
        exact = repr(number)
        if "e" in exact or not self._chance.random() < 0.5:
            return exact
        return self._chance.choice([f"{exact}e0", f"{exact}0E+00", f"{exact}000", f"{exact}e-0"])

    def _blank(self, text: str) -> str:
        return self._chance.choice(BLANKS) + text + self._chance.choice(BLANKS)


def _utf16(letter: str) -> list[int]:
    data = letter.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@given(objects, st.randoms(use_true_random=False))
def test_the_form_of_an_event_does_not_matter(value: dict[str, Any], chance: random.Random) -> None:
    """White space, order, escapes, exponents and members that a later one replaces leave no trace."""
    writer = Writer(chance)

    assert canonical_json(parse(writer.write(value).encode())) == canonical_json(value)


@given(objects, objects)
def test_another_content_has_another_text(one: dict[str, Any], other: dict[str, Any]) -> None:
    """An integer is no float, a boolean no number, "1" no 1: what is kept differently is told apart."""
    assume(_typed(one) != _typed(other))

    assert canonical_json(one) != canonical_json(other)


@given(objects)
def test_the_text_says_all_that_the_value_holds(value: dict[str, Any]) -> None:
    """It reads back to the value, so two values can't share it."""
    assert _typed(json.loads(canonical_json(value))) == _typed(value)


def _typed(value: Any) -> Any:
    """Return a value in which 1, 1.0, -0.0 and True are four things."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return type(value).__name__, repr(value)
