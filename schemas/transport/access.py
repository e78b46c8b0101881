"""Reads the URL and login settings of a server, for both services.

The scheme alone decides about TLS, on any port. A URL holds no secrets: these are in files. Every fault is one sentence
that begins with the wrong setting, and contains no secret. (For Kafka see librdkafka.py.)
"""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from re import fullmatch
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from schemas.transport.tls import Tls, text_of

_PORTS: Final = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
_TLS: Final = frozenset({"https", "rediss"})
_ANY: Final = Tls("")


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed URL.

    Attributes:
        scheme: in lower case.
        host: a name or an address, without brackets; "" for a socket file.
        port: the scheme's default when the URL has none.
        path: as in the URL, without a slash at its end.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in _TLS

    @property
    def keeps_secrets(self) -> bool:
        """Whether a password may be sent there: over TLS, or within this machine."""
        return self.has_tls or self.scheme == "unix" or is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address if self.host else ''}{self.path}"


def read_url(text: str, schemes: Collection[str], login: str) -> Url:
    """Parse a URL.

    Args:
        text: the URL.
        schemes: the allowed schemes.
        login: the settings for user and password, for the sentence.

    Raises:
        ValueError: why the URL can't be used; without its text, which may contain a password.
    """
    if not fullmatch(r"[!-~]+", text) or "\\" in text:
        raise ValueError("must be a URL without spaces or other characters that URLs can't contain")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must name a host, and a port from 1 to 65535 if any") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if "@" in parts.netloc:
        raise ValueError(f"must hold no user and no password; set {login}")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("must end with its path, without ? or #")
    is_file = parts.scheme == "unix"
    is_host = fullmatch(r"" if is_file else r"[\w.:%-]+", parts.hostname or "")
    # From 3.11.4 on Python skips text between "]" and the port.
    is_whole = fullmatch(r"[^]]*(\](:\d*)?)?", parts.netloc)
    if port == 0 or not is_host or not is_whole:
        raise ValueError("must name a file" if is_file else "must name a host, and a port from 1 to 65535 if any")
    path = parts.path if is_file else parts.path.rstrip("/")
    return Url(parts.scheme, parts.hostname or "", port or _PORTS.get(parts.scheme, 0), path)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine; names other than localhost are not resolved, and are not."""
    try:
        address = ip_address(host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Access:
    """The settings of one server's connection.

    Attributes:
        url: the server's URL, or several alternative ones, comma-separated; "" when there is no server.
        user: the user; "" for none.
        password_file: the file with the password; "" for none.
        tls: which certificates to trust and present.
        takes_proxies: whether its client uses the proxies of the environment (HTTP_PROXY and others).
    """

    url: str
    user: str = ""
    password_file: str = ""
    tls: Tls = _ANY
    takes_proxies: bool = False

    def fault(self, schemes: Collection[str], allow_plaintext: str, *, several: bool = False) -> str:
        """Return the first mistake in the settings, or ""; reads no file.

        Args:
            schemes: the allowed schemes.
            allow_plaintext: the setting that allows passwords without TLS; "" when it is set.
            several: whether several URLs are allowed.
        """
        name = self.tls.settings
        if not self.url:
            others = (self.user, self.password_file, self.tls.ca_file, self.tls.certificate_file, self.tls.key_file)
            return f"{name}URL: is needed by the other settings of this server" if any(others) else ""
        for text in self.url.split(",") if several else (self.url,):
            try:
                url = read_url(text, schemes, f"{name}USER and {name}PASSWORD_FILE")
            except ValueError as error:
                return f"{name}URL: {error}"
            if fault := next(self.tls.faults(url.scheme, is_tls=url.has_tls), "") or self._exposed(
                url, allow_plaintext
            ):
                return fault
        return f"{name}USER: must hold no colon" if ":" in self.user else ""

    def _exposed(self, url: Url, allow_plaintext: str) -> str:
        """Return a sentence when the password would be sent in clear text, else ""."""
        if not self.password_file or not allow_plaintext:
            return ""
        where = "" if url.keeps_secrets else f"to {url.address}"
        if self.takes_proxies and url.scheme == "http" and "http" in getproxies() and not proxy_bypass(url.host):
            where = "to the proxy that HTTP_PROXY names"
        return where and (
            f"{self.tls.settings}URL: {url.scheme}:// would send the password {where} without TLS; use"
            f" {url.scheme}s://, or set {allow_plaintext}=true where the network is trusted"
        )

    def password(self) -> str:
        """Read the password from its file, without surrounding white space; "" for none.

        Raises:
            ValueError: the file can't be read.
        """
        try:
            return text_of(self.password_file).strip() if self.password_file else ""
        except ValueError as error:
            raise ValueError(f"{self.tls.settings}PASSWORD_FILE: {error}") from None

    def explain(self, error: BaseException) -> str:
        """Return a sentence, beginning with a setting, when a failed call is about TLS; else "".

        It may connect once more to find out, which takes up to a second: see Tls.probe.
        """
        url = read_url(self.url.rpartition(",")[2], _PORTS, "")
        about_tls = self.tls.explain(error, url.address)
        return about_tls or (self.tls.probe(url.host, url.port, url.address) if url.has_tls else "")

    def check_files(self) -> None:
        """Read the files once at the start, while an operator is watching.

        Raises:
            ValueError: as `password` and `Tls.context`.
        """
        self.password()
        if self.tls.ca_file or self.tls.certificate_file:
            self.tls.context()
