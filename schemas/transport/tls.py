"""Loads the certificates for a server, and explains failed TLS connections by the setting to change.

Every fault is one sentence that begins with the wrong setting, and contains no secret.
"""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import MULTILINE, search
from typing import Final

_CERTIFICATE: Final = "CERTIFICATE"
_KEY: Final = "PRIVATE KEY"
_PROBE_S: Final = 1.0
# OpenSSL's codes for a failed verification: X509_V_ERR_… in x509_vfy.h.
_NOT_NOW: Final = {9: "is not valid yet", 10: "has expired"}
_OTHER_HOST: Final = frozenset({62, 64})
# What a server says when it gets no client certificate, or one that it does not trust.
_REFUSALS: Final = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "HANDSHAKE_FAILURE")
# The connection of a server that goes away, not of one that refuses.
_CLOSED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def text_of(path: str) -> str:
    """Return a file's text.

    Raises:
        ValueError: the file can't be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not text") from None


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates for one server.

    Attributes:
        settings: the prefix of the server's settings, such as CONSUMER_CLICKHOUSE_.
        ca_file: certificates (PEM) of the only authorities to trust; "" for the system's.
        certificate_file: our certificate (PEM) with its intermediate ones; "" for none.
        key_file: its key (PEM), not encrypted; "" when the certificate's file has it.
    """

    settings: str
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    def faults(self, scheme: str, *, is_tls: bool) -> Iterator[str]:
        """Yield mistakes in the settings, without reading the files."""
        if self.key_file and not self.certificate_file:
            yield f"{self.settings}KEY_FILE: needs {self.settings}CERTIFICATE_FILE"
        for name, path in (("CA_FILE", self.ca_file), ("CERTIFICATE_FILE", self.certificate_file)):
            if path and not is_tls:
                yield f"{self.settings}{name}: {self.settings}URL begins with {scheme}://, which has no TLS"

    def context(self) -> ssl.SSLContext:
        """Return a TLS context made from the files as they are now.

        Raises:
            ValueError: a file can't be read, has no certificate or key, or certificate and key don't match.
        """
        for name, path in (("CA_FILE", self.ca_file), ("CERTIFICATE_FILE", self.certificate_file)):
            if path:
                self._require(name, path, _CERTIFICATE)
        context = ssl.create_default_context(cafile=self.ca_file or None)
        # Python 3.13 sets both, and then refuses private certificates that older ones accept.
        context.verify_flags &= ~(ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
        if self.certificate_file:
            self._load(context)
        return context

    def _require(self, name: str, path: str, what: str) -> None:
        """Check that a file can be read and contains a PEM section of a kind."""
        try:
            found = search(rf"^-----BEGIN (?:[A-Z]+ )*{what}-----\s*$", text_of(path), MULTILINE)
        except ValueError as error:
            raise ValueError(f"{self.settings}{name}: {error}") from None
        if not found:
            raise ValueError(f"{self.settings}{name}: {path}: holds no {what.lower()} in PEM form")
        try:
            if what == _CERTIFICATE:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            raise ValueError(f"{self.settings}{name}: {path}: holds a broken certificate") from None

    def _load(self, context: ssl.SSLContext) -> None:
        name, path = ("KEY_FILE", self.key_file) if self.key_file else ("CERTIFICATE_FILE", self.certificate_file)
        self._require(name, path, _KEY)
        try:
            context.load_cert_chain(self.certificate_file, self.key_file or None, _no_passphrase)
        except ssl.SSLError as error:
            why = "does not belong to" if error.reason == "KEY_VALUES_MISMATCH" else "can't be used with"
            found = f"the key in {path} {why} the certificate in {self.certificate_file}"
            raise ValueError(f"{self.settings}{name}: {found} ({error.reason or 'broken'})") from None
        except ValueError as error:
            raise ValueError(f"{self.settings}{name}: {path}: {error}") from None

    def explain(self, error: BaseException, address: str) -> str:
        """Return a sentence about a TLS failure, beginning with the setting to change; "" for another failure."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self.settings + _unverified(cause, address)
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CLOSED):
                return self.settings + self._refused(cause.reason or "", address)
        return ""

    def probe(self, host: str, port: int, address: str) -> str:
        """Connect once more without sending anything, and return what is wrong with TLS; "" for nothing, or no server.

        With TLS 1.3 a server refuses a client's certificate after the handshake. A client that has already sent a
        request may only see a reset connection. Takes up to a second when nothing is wrong.
        """
        try:
            with (
                socket.create_connection((host, port), _PROBE_S) as plain,
                self.context().wrap_socket(plain, server_hostname=host) as secured,
            ):
                secured.recv(1)
        except (OSError, ValueError) as error:
            return self.explain(error, address)
        return ""

    def _refused(self, reason: str, address: str) -> str:
        if any(word in reason for word in _REFUSALS):
            ours = "does not trust our certificate" if self.certificate_file else "wants a client certificate"
            return f"CERTIFICATE_FILE: {address} {ours} ({reason})"
        if any(word in reason for word in _NO_TLS):
            return f"URL: {address} does not speak TLS ({reason})"
        return f"URL: TLS with {address} fails ({reason})"


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted, and a service can't type a passphrase")


def _unverified(error: ssl.SSLCertVerificationError, address: str) -> str:
    if error.verify_code in _OTHER_HOST:
        return f"URL: the certificate at {address} is for another host name"
    if error.verify_code in _NOT_NOW:
        return f"URL: the certificate at {address} {_NOT_NOW[error.verify_code]}"
    return f"CA_FILE: no trusted authority has signed the certificate at {address} ({error.verify_message})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes; HTTP libraries keep these in various places."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue:
        cause = queue.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            queue += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
