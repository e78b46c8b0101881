# cython: language_level=3
"""Makes records of the driver's messages; messages.py says what they are made of, and does the same in Python."""

from consumer.delivery.ports import NO_EPOCH, Record

cdef object _new = tuple.__new__
cdef object _no_epoch = NO_EPOCH


def read(list messages, Py_ssize_t start, list records, place_of, ask_headers, headers_of, unreadable):
    """Append a record of each message until one is an error; return that one's index, or the list's length."""
    cdef Py_ssize_t at
    topic = number = place = None
    for at in range(start, len(messages)):
        message = messages[at]
        if message.error() is not None:
            return at
        its_topic, its_number = message.topic(), message.partition()
        if place is None or its_number != number or its_topic != topic:
            topic, number = its_topic, its_number
            place = place_of(topic, number)
        try:
            headers = ask_headers(message)
        except (SystemError, UnicodeDecodeError):
            headers = unreadable
        else:
            headers = headers_of(headers) if headers else ()
        epoch = message.leader_epoch()
        fields = (
            place,
            message.offset() or 0,
            (<tuple>message.timestamp())[1],
            message.key() or b"",
            message.value() or b"",
            headers,
            _no_epoch if epoch is None else epoch,
        )
        records.append(_new(Record, fields))
    return len(messages)
