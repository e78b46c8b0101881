# cython: language_level=3
"""Judges plain events and writes their records in one pass. plain.py has the tables, and says what is plain.

Whatever is not stored as it was sent goes to its reader in Python, and what a reader refuses is not plain. Texts stay
where the parser has put them until they are copied into the record; every piece of a record has its size with it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from ingest.events.fields import FieldError
from ingest.events.parsing import guard
from ingest.events.times import MS_BELOW, SECONDS_BELOW, client_time_ms

cdef extern from "Python.h":
    ctypedef struct PyObject
    bint PyUnicode_CheckExact(object value)
    bint PyLong_CheckExact(object value)
    bint PyFloat_CheckExact(object value)
    bint PyList_CheckExact(object value)
    bint PyBool_Check(object value)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    int64_t PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    bint PyDict_Next(object members, Py_ssize_t *at, PyObject **name, PyObject **value)
    PyObject *PyDict_GetItemWithError(object members, object name) except? NULL

cdef enum:
    PIECES_MAX = 64  # of a record: its fields, each run of shared ones as one
    NUMBER_BYTES_MAX = 10
    UUID_SIZE = 36

cdef enum Kind:
    TEXT, WORD, UUID, NUMBER, PROPERTY

_KINDS = {"text": TEXT, "word": WORD, "uuid": UUID, "number": NUMBER, "property": PROPERTY}

cdef int64_t MS_FROM = SECONDS_BELOW
cdef int64_t MS_BEFORE = MS_BELOW

cdef struct Piece:
    const char *start
    Py_ssize_t size
    bint is_text  # its size is written before it


cdef class Rule:
    """Which values of a member are stored as they are, where, and who reads the others."""

    cdef Kind kind
    cdef int piece
    cdef int64_t least, most
    cdef object words, reader

    def __init__(self, kind, piece, reader, bounds, words):
        if not 0 <= piece < PIECES_MAX:
            raise ValueError("too many fields")
        self.kind = _KINDS[kind]
        self.piece = piece
        self.reader = reader
        self.least, self.most = bounds
        self.words = words

    cdef bint takes(self, object value, Piece *piece, char *digits) except -1:
        """Put a value that is stored as it is into its piece, which then points at it; tell whether it is one."""
        cdef int64_t number
        cdef int overflow
        if PyUnicode_CheckExact(value):
            if self.kind == TEXT:
                if not self.least <= PyUnicode_GET_LENGTH(value) <= self.most:
                    return False
            elif self.kind == WORD:
                if value not in self.words:
                    return False
            elif self.kind != UUID:
                return False
            piece.start = PyUnicode_AsUTF8AndSize(value, &piece.size)
            return self.kind != UUID or is_uuid(piece.start, piece.size)
        if self.kind == NUMBER and PyLong_CheckExact(value):
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow and self.least <= number <= self.most:
                put_number(piece, digits, number)
                return True
        return False


cdef class Layout:
    """How records are put together, and what is plain; immutable, one for a process.

    Args:
        blanks: a record's pieces in order: a text (str) or other bytes of an event without members, and None for each
            run of fields that all events of a request share.
        rules: of the members that have one, by name; all others are properties.
        places: the pieces with the id, the pingId, the clientId, the type, the User-Agent, the time and the properties.
        keys: the pieces of which the first that is not empty is the record's key.
        required: the pieces that must not be empty.
        bounds: the bytes of properties, the bytes of a key, and the levels inside a property, each at most.
        encode: writes properties as JSON.
    """

    cdef Piece blank[PIECES_MAX]
    cdef int count
    cdef dict rules
    cdef list kept, runs
    cdef tuple keys, required
    cdef int event_id, ping_id, client_id, event_type, agent, occurred, properties
    cdef Py_ssize_t properties_bytes_max, key_bytes_max
    cdef int depth_left
    cdef object encode

    def __init__(self, list blanks, dict rules, places, tuple keys, tuple required, bounds, encode):
        cdef int at
        if len(blanks) > PIECES_MAX:
            raise ValueError(f"a record has {len(blanks)} pieces: raise PIECES_MAX, which is {PIECES_MAX}")
        self.count = len(blanks)
        for at in (*places, *keys, *required):
            if not 0 <= at < self.count:
                raise ValueError("there is no such piece")
        self.kept, self.runs = [], []
        for at in range(self.count):
            blank = blanks[at]
            if blank is None:
                self.runs.append(at)
                blank = b""
            self.blank[at].is_text = isinstance(blank, str)
            if isinstance(blank, str):
                blank = blank.encode()
            point(&self.blank[at], blank, self.kept)
        self.rules, self.keys, self.required, self.encode = rules, keys, required, encode
        (self.event_id, self.ping_id, self.client_id, self.event_type, self.agent, self.occurred,
         self.properties) = places
        self.properties_bytes_max, self.key_bytes_max, self.depth_left = bounds

    cdef bint is_property(self, object value) except -1:
        """Tell whether a value may stand in properties; `guard` decides what is rare."""
        cdef int overflow
        if PyUnicode_CheckExact(value) or value is None or PyBool_Check(value) or PyFloat_CheckExact(value):
            return True
        if PyLong_CheckExact(value):
            PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow:
                return True
        elif PyList_CheckExact(value) and self.depth_left > 0 and has_only_texts(value):
            return True
        return guard(value, self.depth_left) is None


cdef class PlainWriter:
    """Writes the plain events of one request.

    Args:
        layout: of the records.
        shared: the bytes of each run of shared fields.
        agent: for events without a User-Agent.
        times: when the request came, and the first and last moment that a client's clock may say (ms).
        fresh_ids: for events without an id; None: such events are not plain.
    """

    cdef Layout layout
    cdef Piece blank[PIECES_MAX]
    cdef Piece agent
    cdef char received[NUMBER_BYTES_MAX]
    cdef list kept
    cdef int64_t earliest_ms, latest_ms
    cdef object fresh_ids

    def __init__(self, Layout layout, shared, str agent, times, fresh_ids):
        cdef int at
        cdef int64_t received_at_ms
        self.layout, self.fresh_ids, self.kept = layout, fresh_ids, []
        memcpy(self.blank, layout.blank, sizeof(self.blank))
        for at, run in zip(layout.runs, shared, strict=True):
            point(&self.blank[at], run, self.kept)
        point(&self.agent, agent.encode(), self.kept)
        self.agent.is_text = True
        received_at_ms, self.earliest_ms, self.latest_ms = times
        put_number(&self.blank[layout.occurred], self.received, received_at_ms)

    def write(self, raw):
        """Return an event's pingId, its clientId and type, its key and its record; None when it is not plain."""
        cdef Layout layout = self.layout
        cdef Piece pieces[PIECES_MAX]
        cdef char digits[PIECES_MAX][NUMBER_BYTES_MAX]
        cdef Piece *key
        cdef dict properties = {}
        cdef list kept = []  # what pieces point at, and nobody else keeps
        cdef int at
        if type(raw) is not dict:
            return None
        memcpy(pieces, self.blank, sizeof(pieces))
        if not self.fill(raw, pieces, digits, properties, kept):
            return None
        for at in layout.required:
            if not pieces[at].size:
                return None
        if properties and not self.finish(properties, pieces, digits, kept):
            return None
        for at in layout.keys:
            key = &pieces[at]
            if key.size:
                break
        if key.size > layout.key_bytes_max:
            return None
        if not pieces[layout.event_id].size:  # drawn last: what is not plain draws its own
            if self.fresh_ids is None:
                return None
            point_at_text(&pieces[layout.event_id], next(self.fresh_ids), kept)
        if not pieces[layout.ping_id].size:
            pieces[layout.ping_id] = pieces[layout.event_id]
        if not pieces[layout.agent].size:
            pieces[layout.agent] = self.agent
        kind = (text_of(&pieces[layout.client_id]), text_of(&pieces[layout.event_type]))
        return text_of(&pieces[layout.ping_id]), kind, key.start[:key.size], joined(pieces, layout.count)

    cdef bint fill(self, dict raw, Piece *pieces, char (*digits)[NUMBER_BYTES_MAX], dict properties, list kept) except -1:
        """Put members into their pieces or into `properties`; tell whether all of them are plain."""
        cdef Layout layout = self.layout
        cdef PyObject *name_at
        cdef PyObject *value_at
        cdef PyObject *found
        cdef Rule rule
        cdef Py_ssize_t at = 0
        while PyDict_Next(raw, &at, &name_at, &value_at):
            name, value = <object>name_at, <object>value_at
            found = PyDict_GetItemWithError(layout.rules, name)
            if found == NULL:
                if not layout.is_property(value):
                    return False
                properties[name] = value
                continue
            rule = <Rule>found
            if value is None or (rule.kind == PROPERTY and value == ""):
                continue
            if rule.takes(value, &pieces[rule.piece], digits[rule.piece]):
                continue
            try:
                value = rule.reader(value)
            except FieldError:
                return False
            if rule.kind == NUMBER:
                put_number(&pieces[rule.piece], digits[rule.piece], value)
            elif rule.kind != PROPERTY:
                point_at_text(&pieces[rule.piece], value, kept)
            elif value != "":
                properties[name] = value
        return True

    cdef bint finish(self, dict properties, Piece *pieces, char (*digits)[NUMBER_BYTES_MAX], list kept) except -1:
        """Write the properties, and take the time that they say; tell whether they fit."""
        cdef Layout layout = self.layout
        cdef Piece *piece = &pieces[layout.properties]
        cdef int64_t said_ms
        cdef int overflow
        point(piece, layout.encode(properties), kept)
        if piece.size > layout.properties_bytes_max:
            return False
        said = properties.get("timestamp")
        if said is None:
            return True
        if PyLong_CheckExact(said):
            said_ms = PyLong_AsLongLongAndOverflow(said, &overflow)
            if not overflow and MS_FROM <= said_ms < MS_BEFORE:  # what most clients send
                self.believe(said_ms, pieces, digits)
                return True
        said = client_time_ms(said)
        if said is not None:
            self.believe(said, pieces, digits)
        return True

    cdef void believe(self, int64_t said_ms, Piece *pieces, char (*digits)[NUMBER_BYTES_MAX]) noexcept:
        """Take a time as the event's own if a client's clock may say it."""
        cdef int occurred = self.layout.occurred
        if self.earliest_ms <= said_ms <= self.latest_ms:
            put_number(&pieces[occurred], digits[occurred], said_ms)


cdef int point(Piece *piece, bytes value, list kept) except -1:
    kept.append(value)
    piece.start, piece.size = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    return 0


cdef int point_at_text(Piece *piece, str value, list kept) except -1:
    kept.append(value)
    piece.start = PyUnicode_AsUTF8AndSize(value, &piece.size)
    return 0


cdef void put_number(Piece *piece, char *digits, int64_t number) noexcept nogil:
    piece.start, piece.size = digits, put_varint(digits, number)


cdef Py_ssize_t put_varint(char *out, int64_t number) noexcept nogil:
    """Write Avro's zigzag form of a number; return how many bytes that are, at most NUMBER_BYTES_MAX."""
    cdef uint64_t left = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    cdef Py_ssize_t size = 0
    while left > 0x7F:
        out[size] = <char>(left & 0x7F | 0x80)
        left >>= 7
        size += 1
    out[size] = <char>left
    return size + 1


cdef bint is_uuid(const char *text, Py_ssize_t size) noexcept nogil:
    """Tell whether a text is a UUID in canonical form, and not the nil UUID."""
    cdef Py_ssize_t at
    cdef bint is_nil = True
    if size != UUID_SIZE:
        return False
    for at in range(UUID_SIZE):
        if at == 8 or at == 13 or at == 18 or at == 23:
            if text[at] != c'-':
                return False
        elif not (c'0' <= text[at] <= c'9' or c'a' <= text[at] <= c'f'):
            return False
        elif text[at] != c'0':
            is_nil = False
    return not is_nil


cdef bint has_only_texts(list values):
    for value in values:
        if not PyUnicode_CheckExact(value):
            return False
    return True


cdef str text_of(Piece *piece):
    return piece.start[:piece.size].decode()


cdef bytes joined(Piece *pieces, int count):
    """Return the bytes of all pieces, each text behind its size."""
    cdef char digits[NUMBER_BYTES_MAX]
    cdef Py_ssize_t size = 0
    cdef int at
    for at in range(count):
        size += pieces[at].size
        if pieces[at].is_text:
            size += put_varint(digits, pieces[at].size)
    cdef bytes record = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = PyBytes_AS_STRING(record)
    for at in range(count):
        if pieces[at].is_text:
            out += put_varint(out, pieces[at].size)
        memcpy(out, pieces[at].start, pieces[at].size)
        out += pieces[at].size
    return record
