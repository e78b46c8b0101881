"""What every broker of the test suite offers."""

import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar, Final, Self

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_CONSUMER_GROUP_HEARTBEAT: Final = 68  # the API key of KIP-848's groups
_ADMIN_TIMEOUT_S: Final = 60.0
_ADMIN_TRY_S: Final = 20.0
_POLL_S: Final = 0.05


class Broker(ABC):
    """A running broker, or several that form a cluster; a context manager that starts and stops it.

    Tests read the plain attributes to know what they may ask of it.
    """

    name: ClassVar[str]
    """For reports: "apache-kafka", "embedded", "container", "external"."""
    supports_commit_metadata: bool = True
    """A commit's metadata comes back from committed()."""
    supports_kip848: bool = True
    """group.protocol=consumer works."""
    consumer_settings: Mapping[str, str | int] = {}
    """What a classic consumer should set to be quick with this broker."""

    @property
    @abstractmethod
    def bootstrap_servers(self) -> str:
        """The addresses for ``bootstrap.servers``."""

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it serves; one that runs already is left alone.

        Raises:
            NotAvailableError: it cannot run on this machine.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop it; once more does nothing."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def admin(self) -> AdminClient:
        """Return a new client for administration; keep it by name, for its answers die with it."""
        return quiet_admin(self.bootstrap_servers)

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic and wait until every partition has a leader; the factor's default is all nodes, at most 3.

        Raises:
            KafkaException: the broker refuses it, for one that exists too.
            TimeoutError: it did not come up within a minute.
        """
        factor = replication_factor or self._default_replication_factor()
        topic = NewTopic(name, num_partitions=partitions, replication_factor=factor, config=dict(config or {}))
        deadline_s = time.monotonic() + _ADMIN_TIMEOUT_S
        while True:
            admin = self.admin()
            try:
                admin.create_topics([topic], request_timeout=_ADMIN_TRY_S)[name].result(_ADMIN_TIMEOUT_S)
            except (KafkaException, TimeoutError) as error:
                if time.monotonic() >= deadline_s or not _is_of_a_frozen_broker(error):
                    raise
                if name in self.leaders(self.bootstrap_servers):
                    break
                time.sleep(_POLL_S)
            else:
                break
        self._await_topic(name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until the metadata has forgotten it.

        Raises:
            KafkaException: no topic has that name.
            TimeoutError: it is still there after a minute.
        """
        admin = self.admin()
        admin.delete_topics([name])[name].result(_ADMIN_TIMEOUT_S)
        deadline_s = time.monotonic() + _ADMIN_TIMEOUT_S
        while any(name in self.leaders(address) for address in self._addresses()):
            _pause(deadline_s, f"topic {name} is still listed")

    def topic_id(self, name: str) -> str:
        """Return the topic's id as the broker tells it; a topic recreated under the same name has another."""
        admin = self.admin()
        answer = admin.describe_topics(TopicCollection([name]))[name].result(_ADMIN_TIMEOUT_S)
        return str(answer.topic_id)

    def leaders(self, address: str, timeout_s: float = _ADMIN_TIMEOUT_S) -> dict[str, dict[int, int]]:
        """Return the leader's node id (-1: none) by topic and partition, as the node at ``address`` sees it.

        Raises:
            KafkaException: it did not answer.
        """
        topics = quiet_admin(address).list_topics(timeout=timeout_s).topics
        return {
            name: {number: partition.leader for number, partition in topic.partitions.items()}
            for name, topic in topics.items()
        }

    def _addresses(self) -> list[str]:
        """Every node that answers by itself; a topic is there when all of them say so."""
        return [self.bootstrap_servers]

    def _default_replication_factor(self) -> int:
        return 1

    def _await_topic(self, name: str, partitions: int) -> None:
        deadline_s = time.monotonic() + _ADMIN_TIMEOUT_S
        for address in self._addresses():
            while not _is_complete(self.leaders(address).get(name, {}), partitions):
                _pause(deadline_s, f"topic {name} has no leader for each of its {partitions} partitions at {address}")


def _is_of_a_frozen_broker(error: KafkaException | TimeoutError) -> bool:
    """Tell whether a request was left unanswered, or came before the controller has taken the broker back."""
    if isinstance(error, TimeoutError) or "fenced" in error.args[0].str():
        return True
    return error.args[0].name() in {"_TIMED_OUT", "REQUEST_TIMED_OUT", "_TRANSPORT"}


def quiet_admin(bootstrap_servers: str) -> AdminClient:
    """Return a new client that reports no lost connections.

    A new one for each question: its first request goes to one of these addresses, while an older one has learnt of all
    nodes and may ask one that a test has frozen; or it was told of none, by a node that was fenced, and asks nobody any
    more (librdkafka's issue 5301).
    """
    quick = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}
    return AdminClient({"bootstrap.servers": bootstrap_servers, **quick})


def await_metadata(admin: AdminClient, nodes: set[int], timeout_s: float) -> bool:
    """Ask once for the metadata within ``timeout_s``; True when all of these nodes are in it."""
    try:
        return nodes <= set(admin.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def speaks_kip848(bootstrap_servers: str) -> bool:
    """Ask the first address for its APIs (ApiVersions, version 0): is KIP-848's heartbeat one of them?

    Raises:
        OSError: nobody answers within 30 s.
    """
    host, _, port = bootstrap_servers.split(",", maxsplit=1)[0].rpartition(":")
    # size, API key 18, version 0, correlation id 1, no client id: https://kafka.apache.org/protocol
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    with socket.create_connection((host, int(port)), timeout=30) as connection, connection.makefile("rb") as answers:
        connection.sendall(request)
        (size,) = struct.unpack(">i", answers.read(4))
        body = answers.read(size)
    # correlation id, error code, number of entries; each entry is key, lowest and highest version
    return any(key == _CONSUMER_GROUP_HEARTBEAT for key, _, _ in struct.iter_unpack(">hhh", body[10:]))


def _is_complete(leader_of: Mapping[int, int], partitions: int) -> bool:
    return len(leader_of) == partitions and all(leader >= 0 for leader in leader_of.values())


def _pause(deadline_s: float, fault: str) -> None:
    if time.monotonic() >= deadline_s:
        raise TimeoutError(fault)
    time.sleep(_POLL_S)
