"""Regular expressions mean the same on every Python that we run on.

Python before 3.11.5 mistakes the end of a possessive group: where a repetition of `(?:…)*+` fails in its middle, what
it had read until then counts as matched (CPython issue 106052). Debian 12 has such a Python.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _constants, _parser
from typing import Any, Final

import clients
import consumer
import headrace
import ingest
import schemas

# A repetition of theirs that fails has come to the end of the text, where the rest of the pattern fails too.
_RIGHT_ALL_THE_SAME: Final = {"ingest.events.salvage._BRACKETS", "ingest.events.salvage._BRACKETS_OR_COMMA"}


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Yield the compiled patterns of all modules, with their names."""
    for package in (clients, consumer, headrace, ingest, schemas):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(found.name)).items():
                if isinstance(value, re.Pattern):
                    yield f"{found.name}.{name}", value


def has_possessive_group(parsed: Any) -> bool:
    """Tell whether more than one character is repeated possessively, or anything is atomic."""
    for kind, argument in parsed:
        if kind is _constants.ATOMIC_GROUP:
            return True
        if kind is _constants.POSSESSIVE_REPEAT and not is_one_character(argument[2]):
            return True
        if any(has_possessive_group(part) for part in parts_of(argument)):
            return True
    return False


def is_one_character(parsed: Any) -> bool:
    """Tell whether a part of a pattern is a single character of some kind."""
    single = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN, _constants.ANY)
    return len(parsed) == 1 and parsed[0][0] in single


def parts_of(argument: Any) -> Iterator[Any]:
    """Yield the parts of a pattern that stand in an argument of another part."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for one in argument:
            yield from parts_of(one)


def test_no_pattern_depends_on_how_a_possessive_group_ends() -> None:
    """A number ended with a bare `e` was taken for one, and a body with a stray quote for a sound one."""
    found = dict(patterns())
    wrong = {
        name for name, pattern in found.items() if has_possessive_group(_parser.parse(pattern.pattern, pattern.flags))
    }

    assert len(found) > 50
    assert wrong == _RIGHT_ALL_THE_SAME


def test_the_search_finds_them() -> None:
    """In whatever they are nested."""
    for text in ("(?:ab)*+", "x(?:(a|b(?>c))y)", "(?:a+)?+", "(?=(?:ab){1,3}+)"):
        assert has_possessive_group(_parser.parse(text)), text
    for text in ("[ab]*+", "(?:a*+b)*", "a?+b++", "(?:[ab])*"):
        assert not has_possessive_group(_parser.parse(text)), text
