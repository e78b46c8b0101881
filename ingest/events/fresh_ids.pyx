# cython: language_level=3
"""Writes the fresh ids of a request; ids.py says what they are, and does the same in Python."""

from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    BEGIN_SIZE = 24
    SIZE = 36

cdef uint64_t END = <uint64_t>1 << 48
cdef const char *DIGITS = b"0123456789abcdef"


cdef class FreshIds:
    """Yields ids that begin alike, and end with a counter of twelve hexadecimal digits.

    `draw` returns the begin, the first counter and its step; it is asked at the first id.
    """

    cdef object _draw  # None once it was asked
    cdef char _text[SIZE]
    cdef uint64_t _counter, _step

    def __cinit__(self, draw not None):
        self._draw = draw

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint64_t rest
        cdef int at
        if self._draw is not None:
            begin, counter, step = self._draw()
            self.begin(begin, counter, step)
            self._draw = None
        rest = self._counter
        if rest >= END:
            raise StopIteration
        self._counter += self._step
        for at in range(SIZE - 1, BEGIN_SIZE - 1, -1):
            self._text[at] = DIGITS[rest & 15]
            rest >>= 4
        return PyUnicode_DecodeASCII(self._text, SIZE, NULL)

    cdef begin(self, str begin, uint64_t counter, uint64_t step):
        cdef bytes text = begin.encode("ascii")
        if len(text) != BEGIN_SIZE:
            raise ValueError("not the begin of an id")
        memcpy(self._text, <const char *>text, BEGIN_SIZE)
        if not step:
            raise ValueError("ids that do not rise")
        self._counter, self._step = counter, step
