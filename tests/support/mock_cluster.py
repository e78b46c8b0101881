"""librdkafka's mock cluster: brokers in this process that answer with the errors and delays a test asks for.

The functions are part of the library that confluent_kafka brings (rdkafka_mock.h) and are called through ctypes. The
cluster has its own client handle and its own threads and listens on 127.0.0.1, so ordinary clients of this or of any
other process use it; it shares nothing with them but the loaded code. It knows classic groups, idempotent producers
and transactions; it has no topic ids and no administration, and a topic that is asked for exists.
"""

import ctypes
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import cimpl

_PRODUCER: Final = 0  # rd_kafka_type_t: the kind of handle does not matter to the cluster
_TEXT_SIZE: Final = 512


class Api(IntEnum):
    """Kinds of requests, by their key in the protocol (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22


class MockCluster:
    """A cluster of ``brokers`` nodes, numbered from 1, until ``close``; a context manager.

    Groups form without the usual delay of 3 s. Errors are codes of the protocol as ``KafkaError`` names them.
    """

    def __init__(self, brokers: int = 1) -> None:
        """Start it.

        Raises:
            RuntimeError: librdkafka refuses.
        """
        self._library = _library()
        self._handle = _handle(self._library)
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        if self._cluster is None:
            self._library.rd_kafka_destroy(self._handle)
            raise RuntimeError(f"librdkafka made no mock cluster of {brokers} brokers")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def bootstrap_servers(self) -> str:
        """The addresses for ``bootstrap.servers``."""
        addresses: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._live())
        return addresses.decode()

    def push_request_errors(self, api: Api, *errors: int) -> None:
        """Answer the next requests of this kind with these errors, one each, whichever broker they reach."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._live(), api, len(errors), codes)

    def clear_errors(self, api: Api) -> None:
        """Forget the pushed errors of this kind that no request has met yet."""
        self._library.rd_kafka_mock_clear_request_errors(self._live(), api)

    def set_rtt(self, broker_id: int, rtt_ms: int) -> None:
        """Delay every answer of a broker; 0 ends it."""
        self._check(self._library.rd_kafka_mock_broker_set_rtt(self._live(), broker_id, rtt_ms))

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic, one replica for each partition.

        Raises:
            RuntimeError: it exists.
        """
        self._check(self._library.rd_kafka_mock_topic_create(self._live(), name.encode(), partitions, 1))

    def close(self) -> None:
        """Stop the brokers and forget what they hold; once more does nothing."""
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live(self) -> int:
        if self._cluster is None:  # librdkafka would follow the pointer
            raise RuntimeError("the mock cluster is closed")
        return self._cluster

    def _check(self, code: int) -> None:
        if code:
            name: bytes = self._library.rd_kafka_err2name(code)
            raise RuntimeError(f"the mock cluster refused: {name.decode()}")


def _library() -> ctypes.CDLL:
    """Return librdkafka as confluent_kafka has loaded it: symbols are looked up in what its extension links to."""
    library = ctypes.CDLL(cimpl.__file__)
    handle, number, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (handle, []),
        "rd_kafka_conf_set": (ctypes.c_int, [handle, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (handle, [ctypes.c_int, handle, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [handle]),
        "rd_kafka_err2name": (text, [ctypes.c_int]),
        "rd_kafka_mock_cluster_new": (handle, [handle, ctypes.c_int]),
        "rd_kafka_mock_cluster_destroy": (None, [handle]),
        "rd_kafka_mock_cluster_bootstraps": (text, [handle]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [handle, number]),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            [handle, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
        "rd_kafka_mock_clear_request_errors": (None, [handle, ctypes.c_int16]),
        "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [handle, number, ctypes.c_int]),
        "rd_kafka_mock_topic_create": (ctypes.c_int, [handle, text, ctypes.c_int, ctypes.c_int]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _handle(library: ctypes.CDLL) -> int:
    text = ctypes.create_string_buffer(_TEXT_SIZE)
    settings = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(settings, b"log_level", b"0", text, _TEXT_SIZE)  # its clients tell what a test wants
    handle: int | None = library.rd_kafka_new(_PRODUCER, settings, text, _TEXT_SIZE)
    if handle is None:
        raise RuntimeError(f"librdkafka made no client: {text.value.decode()}")
    return handle
