"""A producer for header names that are no UTF-8, which the driver does not send: librdkafka's own function does."""

import ctypes
from typing import Final

from confluent_kafka import cimpl

_PRODUCER: Final = 0
_TOPIC, _PARTITION, _VALUE, _FLAGS, _HEADER, _END = 1, 3, 4, 7, 9, 0  # rd_kafka_vtype_t
_COPY: Final = 2
_FLUSH_MS: Final = 30_000
_TEXT: Final = 512


def produce(bootstrap_servers: str, topic: str, value: bytes, name: bytes) -> None:
    """Produce one record with one header to partition 0, and wait until it is acknowledged."""
    library = ctypes.CDLL(cimpl.__file__)  # as confluent_kafka has loaded it
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    conf, why = ctypes.c_void_p(library.rd_kafka_conf_new()), ctypes.create_string_buffer(_TEXT)
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap_servers.encode(), why, ctypes.c_size_t(_TEXT))
    handle = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, why, ctypes.c_size_t(_TEXT)))
    size, long = ctypes.c_size_t, ctypes.c_ssize_t
    error = library.rd_kafka_producev(
        handle, _TOPIC, ctypes.c_char_p(topic.encode()), _PARTITION, ctypes.c_int32(0), _FLAGS, _COPY,
        _VALUE, ctypes.c_char_p(value), size(len(value)),
        _HEADER, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), long(1),
        _END,
    )  # fmt: skip
    assert error == 0, error
    assert library.rd_kafka_flush(handle, _FLUSH_MS) == 0
    library.rd_kafka_destroy(handle)
