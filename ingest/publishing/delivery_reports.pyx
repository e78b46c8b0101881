# cython: language_level=3
"""Takes the delivery reports of records; reports.py says how, and does the same in Python.

Between its look at a status and its change of it no Python runs, so that no other thread does: it needs no lock.
"""

cimport cython

from itertools import repeat

from ingest.publishing.ports import DELIVERED, UNKNOWN, DeliveryStatus

cdef object _unknown = UNKNOWN
cdef object _delivered = DELIVERED
cdef object _failed = DeliveryStatus.FAILED


cdef class Reports:
    """The statuses of some records; `ended` is called when all of them have one."""

    cdef list _statuses
    cdef Py_ssize_t _left
    cdef object _status_of, _on_missing_offset

    def __init__(self, Py_ssize_t count, status_of, on_missing_offset):
        self._statuses = [_unknown] * count
        self._left = count
        self._status_of, self._on_missing_offset = status_of, on_missing_offset

    def statuses(self):
        """Return the present statuses, in the records' order."""
        return self._statuses.copy()

    def takers(self, indexes):
        """Yield what takes the delivery reports of records, by their indexes."""
        return map(Taker, repeat(self), indexes)

    def give_up(self, status=_failed, Py_ssize_t first=0):
        """Settle the records, from the first one on, that will get no report."""
        cdef Py_ssize_t index, before = self._left
        for index in range(first, len(self._statuses)):
            if self._statuses[index] is _unknown:
                self._statuses[index] = status
                self._left -= 1
        if before and not self._left:
            self.ended()

    cdef take(self, Py_ssize_t index, error, message):
        status = _delivered
        if error is not None:
            status = self._status_of(error)
        elif message.offset() is None:
            status = _failed
            self._on_missing_offset()
        if self._statuses[index] is not _unknown:
            return
        self._statuses[index] = status
        self._left -= 1
        if not self._left:
            self.ended()


@cython.freelist(256)
cdef class Taker:
    """Takes the delivery report of one record."""

    cdef Reports _reports
    cdef Py_ssize_t _index

    def __cinit__(self, Reports reports not None, Py_ssize_t index):
        self._reports, self._index = reports, index

    def __call__(self, error, message):
        self._reports.take(self._index, error, message)
