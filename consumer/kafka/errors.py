"""Translates Kafka's errors to the worker's, by tables of names (KafkaError.name()).

An unlisted name is Transient: the call is repeated, while an alarm rings.
"""

from typing import Final

from consumer.errors import ConsumerError, Fatal, Fenced, Halt, HaltCode, Transient

# The group has expelled this member. ILLEGAL_GENERATION and STALE_MEMBER_EPOCH are not listed: a valid member gets them
# while a rebalance leaves it its partitions (seen on Apache Kafka 4.1), and has to retry.
_FENCED_KAFKA: Final = frozenset({"UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH", "_FENCED"})
# Permissions that may be granted later, and faults of a single partition.
_HALT_KAFKA: Final[dict[str, HaltCode]] = {
    "TOPIC_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "GROUP_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "CLUSTER_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "OFFSET_METADATA_TOO_LARGE": HaltCode.INTENT,
}
# An operator must act: client and broker are incompatible, or two processes have one static name (FENCED_INSTANCE_ID)
# and would expel each other for ever.
_FATAL_KAFKA: Final = frozenset(
    {"UNSUPPORTED_SASL_MECHANISM", "UNSUPPORTED_VERSION", "INVALID_GROUP_ID", "INVALID_TOPIC_EXCEPTION"}
    | {"UNSUPPORTED_ASSIGNOR", "_UNSUPPORTED_FEATURE", "_INVALID_ARG", "_FATAL", "_AUTO_OFFSET_RESET"}
    | {"FENCED_INSTANCE_ID"}
)


def of_kafka(name: str, message: str) -> ConsumerError:
    """Translate an error of Kafka, by the name of its code."""
    shown = f"{name}: {message}"
    if name in _FENCED_KAFKA:
        return Fenced(shown)
    if code := _HALT_KAFKA.get(name):
        return Halt(shown, code)
    return Fatal(shown) if name in _FATAL_KAFKA else Transient(shown)
