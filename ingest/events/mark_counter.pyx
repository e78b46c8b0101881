# cython: language_level=3
"""Counts the marks of a JSON text; structure.py says what they are, and does the same in Python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    STRIDE = 128  # so few that their count fits into a byte, and compilers look at sixteen or more at once


def count(bytes text not None):
    """Return how many bytes of a text are a comma or an opening bracket."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text), start = 0, marks = 0, index
    cdef unsigned char few
    while start + STRIDE <= size:
        few = 0
        for index in range(start, start + STRIDE):
            few += (at[index] == c",") + (at[index] == c"[") + (at[index] == c"{")
        marks += few
        start += STRIDE
    for index in range(start, size):
        marks += (at[index] == c",") + (at[index] == c"[") + (at[index] == c"{")
    return marks
