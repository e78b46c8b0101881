# cython: language_level=3
"""Writes the containers of events; containers.py says what a container is, and does the same in Python.

The sizes are added up first, so that each value is copied once, to its place in the container. Other threads run while
values are copied.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    OFFSET = 1  # the places in a record, consumer/delivery/ports.py
    TIMESTAMP = 2
    VALUE = 4
    FIELDS_MIN = 5

cdef struct Row:
    const char *body
    Py_ssize_t size
    uint64_t offset, timestamp  # zigzag


cdef inline uint64_t _zigzag(int64_t number) noexcept nogil:
    return (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)


cdef inline Py_ssize_t _size(uint64_t number) noexcept nogil:
    cdef Py_ssize_t size = 1
    while number > 127:
        number >>= 7
        size += 1
    return size


cdef inline char *_put(char *at, uint64_t number) noexcept nogil:
    while number > 127:
        at[0] = <char>(number & 127 | 128)
        number >>= 7
        at += 1
    at[0] = <char>number
    return at + 1


cdef inline char *_copy(char *at, const char *start, Py_ssize_t size) noexcept nogil:
    memcpy(at, start, size)
    return at + size


cdef inline object _field(object record, int at):
    if not PyTuple_Check(record) or PyTuple_GET_SIZE(record) < FIELDS_MIN:
        raise TypeError("not a record")
    return <object>PyTuple_GET_ITEM(record, at)


cdef inline bytes _value(object record):
    value = _field(record, VALUE)
    if not PyBytes_CheckExact(value):
        raise TypeError("a value that is not bytes")
    return <bytes>value


def frames(records, Py_ssize_t size):
    """Return the first bytes of all values, so many of each."""
    cdef bytes value, frame = None
    found = set()
    for record in records:
        value = _value(record)
        if (
            frame is None
            or PyBytes_GET_SIZE(value) < size
            or memcmp(PyBytes_AS_STRING(value), PyBytes_AS_STRING(frame), size)
        ):
            found.add(value[:size])
            if PyBytes_GET_SIZE(value) >= size:
                frame = value
    return found


def container(bytes header not None, int64_t partition, records, Py_ssize_t frame_size, bytes sync not None):
    """Return the container of records of a partition, each in a separate block, without the frames of their values."""
    cdef tuple held = tuple(records)  # nothing is freed while it is copied
    cdef Py_ssize_t count = len(held), at
    cdef Row *rows = <Row *>PyMem_Malloc(max(count, 1) * sizeof(Row))
    if rows is NULL:
        raise MemoryError
    try:
        for at in range(count):
            _fill(&rows[at], held[at], frame_size)
        return _join(header, _zigzag(partition), rows, count, sync)
    finally:
        PyMem_Free(rows)


cdef _fill(Row *row, record, Py_ssize_t frame_size):
    cdef bytes value = _value(record)
    cdef int64_t timestamp = _field(record, TIMESTAMP)
    if PyBytes_GET_SIZE(value) < frame_size:
        raise ValueError("a value without a frame")
    row.body = PyBytes_AS_STRING(value) + frame_size
    row.size = PyBytes_GET_SIZE(value) - frame_size
    row.offset = _zigzag(<int64_t>_field(record, OFFSET))
    row.timestamp = _zigzag(max(timestamp, 0))


cdef bytes _join(bytes header, uint64_t partition, const Row *rows, Py_ssize_t count, bytes sync):
    cdef Py_ssize_t header_size = PyBytes_GET_SIZE(header), sync_size = PyBytes_GET_SIZE(sync)
    cdef Py_ssize_t total = header_size, at, size
    cdef const char *head = PyBytes_AS_STRING(header)
    cdef const char *end = PyBytes_AS_STRING(sync)
    cdef const Row *row
    cdef char *to
    for at in range(count):
        size = _row_size(&rows[at], partition)
        total += 1 + _size(_zigzag(size)) + size + sync_size
    made = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(made)
    with nogil:
        to = _copy(to, head, header_size)
        for at in range(count):
            row = &rows[at]
            to = _put(to, _zigzag(1))  # one row in this block
            to = _put(to, _zigzag(_row_size(row, partition)))
            to = _put(to, partition)
            to = _put(to, row.offset)
            to = _put(to, row.timestamp)
            to = _copy(to, row.body, row.size)
            to = _copy(to, end, sync_size)
    return made


cdef inline Py_ssize_t _row_size(const Row *row, uint64_t partition) noexcept nogil:
    return _size(partition) + _size(row.offset) + _size(row.timestamp) + row.size
