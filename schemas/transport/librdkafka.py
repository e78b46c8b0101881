"""Reads an operator's file of librdkafka properties, and explains librdkafka's errors, for both services.

Every client of a service (consumer, producer, admin client) gets all properties of the file: librdkafka ignores those
of other kinds of clients. Three kinds of names are refused, each with a sentence: those that the service's promises
depend on, those that have a setting, and those that need a function.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from re import fullmatch, search, sub
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from schemas.transport.access import is_loopback
from schemas.transport.librdkafka_log import LIBRARY
from schemas.transport.tls import text_of

SET_BY_US: Final = "is set by headrace"
_ALIASES: Final = {
    "metadata.broker.list": "bootstrap.servers",
    "request.required.acks": "acks",
    "queue.buffering.max.ms": "linger.ms",
    "delivery.timeout.ms": "message.timeout.ms",
    "auto.commit.enable": "enable.auto.commit",
    "compression.codec": "compression.type",
    "message.send.max.retries": "retries",
    "max.in.flight.requests.per.connection": "max.in.flight",
}
"""librdkafka's aliases of names that may be refused (its CONFIGURATION.md)."""
_FUNCTIONS: Final = frozenset({"logger", "log.queue", "on_commit", "on_delivery", "opaque", "default.topic.config"})
_IN_CLEAR_TEXT: Final = frozenset({"plain", "oauthbearer"})  # SCRAM proves a password without sending it
_OF_THE_FILE: Final = frozenset({KafkaError._SSL, KafkaError._AUTHENTICATION})  # noqa: SLF001  (their public names)
# Without a logger, `debug` in a file writes to standard error; of clients that only look nobody wants to hear.
_UNHEARD: Final = logging.Logger("librdkafka", logging.CRITICAL + 1)  # noqa: LOG001  (one that nobody configures)


def read_properties(path: str, owned: Mapping[str, str]) -> dict[str, str]:
    """Read librdkafka properties from a file of `key=value` lines; `#` starts a comment. "" is no file.

    Args:
        path: the file.
        owned: the properties that the file may not set, under any of their names, each with the reason.

    Raises:
        ValueError: the file can't be read, a line is malformed or not allowed, or a file that it names can't be read.
            The message contains no line's text, which may be a secret.
    """
    pairs: dict[str, str] = {}
    for number, line in enumerate(text_of(path).splitlines() if path else (), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not key + equals or key.startswith("#"):
            continue
        if fault := _fault(key, equals, owned) or _unreadable(key, value):
            raise ValueError(f"{path}, line {number}: {fault}")
        pairs[key] = value
    return pairs


def _fault(key: str, equals: str, owned: Mapping[str, str]) -> str:
    if not key or not equals:
        return "not key=value"
    if key.endswith("_cb") or key in _FUNCTIONS:
        return f"{key} needs a function, which a file can't hold"
    reason = owned.get(_ALIASES.get(key, key)) or owned.get(key)
    return f"{key} {reason}" if reason else ""


def _unreadable(key: str, value: str) -> str:
    """Return what is wrong with a file that a property names; librdkafka reports only a number."""
    if not search(r"\.(location|file)$", key) or value in ("", "probe"):
        return ""
    try:
        if not Path(value).is_dir():
            Path(value).read_bytes()
    except OSError as error:
        return f"{key}: {value}: {error.strerror}"
    return ""


def check_servers(text: str) -> None:
    """Check a list of brokers.

    Raises:
        ValueError: an entry is not host:port.
    """
    for entry in text.split(","):
        found = fullmatch(r"(?:\w+://)?(\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(?::(\d{1,5}))?", entry.strip())
        if not found or not 1 <= int(found[2] or 1) <= 65_535:  # noqa: PLR2004  (TCP's)
            raise ValueError("must be host:port, several comma-separated, with ports from 1 to 65535")


def verify(properties: Mapping[str, object], allow_plaintext: str) -> None:
    """Let librdkafka check the properties of all clients: names, values, files and contradictions.

    Args:
        properties: including the brokers' addresses and the service's own properties.
        allow_plaintext: the setting that allows passwords without TLS; "" when it is set.

    Raises:
        ValueError: librdkafka's message, or that the password would be sent without TLS.
    """
    quiet = {**properties, "log_level": 0}
    try:
        Consumer({"group.id": "-", **quiet}, logger=_UNHEARD).close()
        Producer(quiet, logger=_UNHEARD).flush(0)
    except KafkaException as error:
        raise ValueError(_sentence(error.args[0], properties)) from None
    except (TypeError, AttributeError, ValueError) as error:  # from the driver, about properties it handles itself
        raise ValueError(str(error)) from None
    if allow_plaintext and _exposes_password(properties):
        raise ValueError(
            f"security.protocol=sasl_plaintext would send the password to the brokers without TLS; use sasl_ssl, or set"
            f" {allow_plaintext}=true where the network is trusted"
        )


def _exposes_password(properties: Mapping[str, object]) -> bool:
    """Tell whether a password would leave this machine in clear text."""
    protocol, mechanism = (
        next((str(properties[name]).lower() for name in names if name in properties), "")
        for names in (("security.protocol",), ("sasl.mechanisms", "sasl.mechanism"))
    )
    servers = (sub(r"^\w+://|:\d+$", "", entry.strip()) for entry in str(properties["bootstrap.servers"]).split(","))
    is_near = all(is_loopback(server.strip("[]")) for server in servers)
    return protocol == "sasl_plaintext" and mechanism in _IN_CLEAR_TEXT and not is_near


def _sentence(error: KafkaError, properties: Mapping[str, object]) -> str:
    """Return why a client can't be made, with the file at fault."""
    found = fullmatch(r"Failed to create \w+: (ssl\.[\w.]+) failed: (?:.*:)?([^:]+)", error.str())
    return f"{found[1]}: {properties.get(found[1], '')}: {found[2].strip()}" if found else error.str()


def reporting(setting: str) -> dict[str, Any]:
    """Return the arguments with which a client logs its errors; it does so while it is polled.

    Args:
        setting: the setting that names the file, for errors about certificates and logins.
    """

    def report(error: KafkaError) -> None:
        extra = {"reason": error.name(), "detail": plain(error)}
        where = {"setting": setting} if is_for_a_person(error) else {}
        logging.getLogger(LIBRARY).warning("broker trouble", extra=extra | where)

    return {"error_cb": report, "logger": logging.getLogger(LIBRARY)}


def plain(error: KafkaError) -> str:
    """Return librdkafka's message without OpenSSL's numbers and its own state."""
    return sub(r" \(after .*\)$", "", sub(r"error:[0-9A-F]+:[\w ]*:[\w ]*:", "", error.str()))


def is_for_a_person(error: KafkaError) -> bool:
    """Tell whether a connection failed because of certificates or the login: waiting does not help."""
    untrusted = search(r"certificate verify failed|\balert\b.*(certificate|unknown ca|handshake failure)", error.str())
    return bool(untrusted) or (error.code() in _OF_THE_FILE and "isconnect" not in error.str())
