"""Apache Kafka with two more listeners: TLS, and TLS that wants a client's certificate."""

from typing import Final

from tests.support.certificates import Authority, Pair
from tests.support.kafka_cluster import KafkaCluster
from tests.support.kafka_node import HOST
from tests.support.ports import free_port

_PROTOCOLS: Final = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "TLS": "SSL", "MUTUAL": "SSL"}


class TlsKafka(KafkaCluster):
    """One node; a test's own client uses its first listener, without TLS.

    Attributes:
        port: where TLS is.
        mutual_port: where a client has to show a certificate of the authority.
    """

    def __init__(self, authority: Authority, pair: Pair) -> None:
        """Choose ports; `pair` is what the server shows."""
        super().__init__(1)
        (node,) = self.nodes
        self.port, self.mutual_port = free_port(), free_port()
        ports = {"PLAINTEXT": node.port, "TLS": self.port, "MUTUAL": self.mutual_port}
        clients = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
        self._settings |= {
            "listeners": f"{clients},CONTROLLER://{HOST}:{node.controller_port}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in _PROTOCOLS.items()),
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(pair.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.file),
        }
