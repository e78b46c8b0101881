"""One ClickHouse statement as it comes over HTTP: where the SQL ends and an insert's data begin.

A server reads both from one stream. The engine in this process reads data from files only (inline
data it cuts at the first `;`, and for `input(...)` it reads nothing and says nothing). So a statement
is told apart here by its tokens and written anew around the file that holds its data:

    INSERT INTO t (a) FORMAT X                         INSERT INTO t (a) FROM INFILE '…' FORMAT X
    INSERT INTO t SELECT … FROM input('s') … FORMAT X  INSERT INTO t SELECT … FROM file('…', 'X', 's') …

Pure: bytes in, a value out. The cost is linear in the SQL; data are not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.embedded.clickhouse_errors import (
    INTO_OUTFILE_NOT_ALLOWED,
    INVALID_USAGE_OF_INPUT,
    SYNTAX_ERROR,
    UNKNOWN_TYPE_OF_QUERY,
    ClickHouseError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tokens as ClickHouse's lexer cuts them, as far as a statement's end depends on it.
_TOKEN: Final = re.compile(
    rb"""
    (?P<blank>\s++ | --[^\n]*+ | \#[ !][^\n]*+ | /\*.*?\*/)
  | (?P<string>'(?:[^'\\]++|\\.|'')*+' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
  | (?P<name>"(?:[^"\\]++|\\.|"")*+" | `(?:[^`\\]++|\\.|``)*+`)
  | (?P<word>[A-Za-z_][A-Za-z_0-9]*+)
  | (?P<number>[0-9][A-Za-z_0-9.]*+)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_DATA: Final = re.compile(rb"[ \t\f]*\r?\n?")
# After these comes the name of something, whatever the word is.
_NAMING: Final = frozenset((b"INTO", b"TABLE", b"FUNCTION", b"."))
# Statements that answer with rows begin so.
_SELECTING: Final = frozenset(b"SELECT WITH FROM ( SHOW DESCRIBE DESC EXPLAIN EXISTS CHECK KILL".split())


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement without its data.

    Attributes:
        before: The SQL up to where the file is named; all of it when the statement takes no data.
        after: The SQL from there on.
        format: Of the data; of the answer when there are none; None where the SQL names none.
        data_at: Where the data begin in the text; None when the statement takes none.
        structure: The argument of `input`, a string literal; None for an insert without a SELECT.
        selects: Whether it is one of those that answer with rows, be they none.
    """

    before: bytes
    after: bytes = b""
    format: str | None = None
    data_at: int | None = None
    structure: bytes | None = None
    selects: bool = False

    def sql(self, path: str | None = None) -> bytes:
        """Return what the engine runs; `path` (without quotes in it) holds the data, if it takes any."""
        if path is None or self.format is None:
            return self.before
        source, form = path.encode(), self.format.encode()
        if self.structure is not None:
            return b"%sfile('%s', '%s', %s)%s" % (self.before, source, form, self.structure, self.after)
        return b"%s FROM INFILE '%s' %s FORMAT %s" % (self.before, source, self.after, form)


class _Token(NamedTuple):
    kind: str
    text: bytes  # a word in upper case
    start: int
    end: int
    depth: int


_NONE: Final = _Token("", b"", 0, 0, 0)


def parse(text: bytes) -> Statement:
    """Read the statement in `text`: SQL, and for an insert perhaps the first of its data.

    Raises:
        ClickHouseError: There is no statement or more than one, or it cannot come over HTTP.
    """
    tokens = _tokens(text)
    first = next(tokens, _NONE)
    if first.text in (b"", b";"):
        raise ClickHouseError(SYNTAX_ERROR, "Empty query")
    if first.text == b"INSERT":
        return _insert(text, tokens)
    return _query(text, first, list(tokens))


def _tokens(text: bytes) -> Iterator[_Token]:
    depth = 0
    for found in _TOKEN.finditer(text):
        kind, word = str(found.lastgroup), found[0]
        if kind == "blank":
            continue
        depth -= word in (b")", b"]", b"}")
        yield _Token(kind, word.upper() if kind == "word" else word, found.start(), found.end(), depth)
        depth += word in (b"(", b"[", b"{")


def _query(text: bytes, first: _Token, tokens: list[_Token]) -> Statement:
    """Read a statement that takes no data."""
    form, end = None, len(text)
    for token, following, last in zip(tokens, [*tokens[1:], _NONE], [*tokens[2:], _NONE, _NONE], strict=False):
        pair = (token.text, following.text)
        if token.text == b";":
            _refuse_more(following)
            end = token.start
        elif pair == (b"INPUT", b"("):
            raise ClickHouseError(INVALID_USAGE_OF_INPUT, "input() may stand in INSERT INTO ... SELECT only")
        elif pair == (b"INTO", b"OUTFILE"):
            raise ClickHouseError(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed over HTTP")
        elif token.text == b"FORMAT" and token.depth == 0 and last.text in (b"", b";", b"SETTINGS"):
            form = text[following.start : following.end].decode() if following.kind == "word" else form
    return Statement(text[:end], format=form, selects=first.text in _SELECTING)


def _insert(text: bytes, tokens: Iterator[_Token]) -> Statement:
    """Read an INSERT from behind its first word; stops where the data begin."""
    settings_at, previous = None, _NONE
    for token in tokens:
        named, previous = previous.text in _NAMING, token
        if token.text == b";":
            return _ended(text, token, tokens)
        if named or token.kind != "word":
            continue
        if token.text == b"SELECT":
            return _insert_select(text, tokens)
        if token.depth:
            continue
        if token.text == b"INFILE":
            raise ClickHouseError(UNKNOWN_TYPE_OF_QUERY, "FROM INFILE is read by a client, not over HTTP")
        if token.text == b"SETTINGS":
            settings_at = token.start
        if token.text in (b"VALUES", b"FORMAT"):
            return _insert_data(text, token, tokens, settings_at or token.start)
    return Statement(text)


def _insert_data(text: bytes, word: _Token, tokens: Iterator[_Token], settings_at: int) -> Statement:
    """Read the end of an INSERT without SELECT, from its VALUES or FORMAT."""
    # FROM INFILE goes before the settings.
    before, after = text[:settings_at], text[settings_at : word.start]
    if word.text == b"VALUES":
        return Statement(before, after, "Values", word.end)
    form = next(tokens, _NONE)
    if form.kind != "word":
        return Statement(text)  # the engine says what is wrong
    return Statement(before, after, text[form.start : form.end].decode(), _data_start(text, form.end))


def _insert_select(text: bytes, tokens: Iterator[_Token]) -> Statement:
    """Read an INSERT from behind SELECT; data follow only an `input(...)` with a FORMAT."""
    source: _Token | None = None
    for token in tokens:
        if token.text == b";" and source is None:
            return _ended(text, token, tokens)
        if token.text == b"INPUT" and (call := _input_call(token, tokens)):
            if source is not None:
                raise ClickHouseError(INVALID_USAGE_OF_INPUT, "input() may stand in a statement once")
            source = call
        if token.text == b"FORMAT" and token.depth == 0 and source is not None:
            form = next(tokens, _NONE)
            if form.kind != "word":
                break
            name, data_at = text[form.start : form.end].decode(), _data_start(text, form.end)
            return Statement(text[: source.start], text[source.end : token.start], name, data_at, source.text)
    if source is not None:
        raise ClickHouseError(INVALID_USAGE_OF_INPUT, "input() needs a FORMAT clause for the data behind it")
    return Statement(text)


def _input_call(word: _Token, tokens: Iterator[_Token]) -> _Token | None:
    """Return `input('structure')` as one token with the structure as its text, None for a plain word."""
    if next(tokens, _NONE).text != b"(":
        return None
    structure, closing = next(tokens, _NONE), next(tokens, _NONE)
    if structure.kind != "string" or closing.text != b")":
        raise ClickHouseError(INVALID_USAGE_OF_INPUT, "input() needs its structure as one string literal")
    return _Token("input", structure.text, word.start, closing.end, word.depth)


def _ended(text: bytes, semicolon: _Token, tokens: Iterator[_Token]) -> Statement:
    _refuse_more(next(tokens, _NONE))
    return Statement(text[: semicolon.start])


def _data_start(text: bytes, position: int) -> int:
    """Return where data begin behind FORMAT: blanks and one line end belong to the SQL."""
    start = _BEFORE_DATA.match(text, position)
    end = start.end() if start else position
    if text[end : end + 1] == b";":
        raise ClickHouseError(SYNTAX_ERROR, "You have excessive ';' symbol before data for INSERT")
    return end


def _refuse_more(token: _Token) -> None:
    if token is not _NONE:
        raise ClickHouseError(SYNTAX_ERROR, f"Multi-statements are not allowed (position {token.start})")
