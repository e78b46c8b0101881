"""How a server is reached: what a URL may say, and who could read a password on its way."""

import pytest

from schemas.transport.access import Access, is_loopback, read_url
from schemas.transport.tls import Tls

_HTTP = ("http", "https")
_TLS = Tls("X_", ca_file="/ca", certificate_file="/certificate", key_file="/key")


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("https://host:9440", "https", "host", 9440, ""),
        ("http://host:443", "http", "host", 443, ""),
        ("https://host/clickhouse/", "https", "host", 443, "/clickhouse"),
        ("http://host/a%20b/c", "http", "host", 80, "/a%20b/c"),
        ("HTTPS://Host", "https", "host", 443, ""),
        ("https://[2001:db8::1]:8443/", "https", "2001:db8::1", 8443, ""),
    ],
)
def test_a_url_is_taken_as_it_reads(text: str, scheme: str, host: str, port: int, path: str) -> None:
    """Scheme, host, port and path; nothing is guessed from the port."""
    url = read_url(text, _HTTP, "")

    assert (url.scheme, url.host, url.port, url.path) == (scheme, host, port, path)
    assert url.has_tls is (scheme == "https")
    assert read_url(str(url), _HTTP, "") == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:8123",
        "ftp://host",
        "http:host",
        "http:/host",
        "http://",
        "http:///path",
        "http://:80",
        "http://host:0",
        "http://host:65536",
        "http://host:x",
        "http://[::1",
        "http://[::1]x:80",
        "http://[::1]80",
        "http://ho st",
        "http://ho\nst",
        "http://ho\tst",
        "http://host\\@other",
        "http://host?",
        "http://host?a=b",
        "http://host#",
        "http://user@host",
        "http://user:secret@host",
        "http://@host",
        "unix:///file",
    ],
)
def test_what_can_not_be_used_of_a_url_is_refused(text: str) -> None:
    """With a sentence that does not show it."""
    with pytest.raises(ValueError, match=r"^must ") as refused:
        read_url(text, _HTTP, "")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LocalHost."])
def test_this_machine_has_several_names(host: str) -> None:
    """An IPv4 address may be written as an IPv6 one."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::ffff:10.0.0.1", "::2", "localhost.example", ""])
def test_other_machines_are_not_this_one(host: str) -> None:
    """A name is not resolved."""
    assert not is_loopback(host)


def test_a_socket_file_has_no_host() -> None:
    """It stays on this machine."""
    url = read_url("unix:///run/redis.sock", ("redis", "unix"), "")

    assert (url.host, url.path, url.keeps_secrets, str(url)) == ("", "/run/redis.sock", True, "unix:///run/redis.sock")
    with pytest.raises(ValueError, match="a file"):
        read_url("unix://host/file", ("unix",), "")


@pytest.mark.parametrize(
    ("access", "begins"),
    [
        (Access("http://host", tls=Tls("X_", ca_file="/ca")), "X_CA_FILE: X_URL begins with http://"),
        (Access("http://host", tls=Tls("X_", "", "/certificate")), "X_CERTIFICATE_FILE: X_URL begins"),
        (Access("https://host", tls=Tls("X_", key_file="/key")), "X_KEY_FILE: needs X_CERTIFICATE_FILE"),
        (Access("", tls=_TLS), "X_URL: is needed"),
        (Access("", password_file="/password", tls=Tls("X_")), "X_URL: is needed"),  # noqa: S106  (a path)
        (Access("https://host", "a:b", tls=_TLS), "X_USER: must hold no colon"),
        (Access("https://host,https://other", tls=_TLS), "X_URL: must name a host"),
    ],
)
def test_settings_that_contradict_each_other_are_named(access: Access, begins: str) -> None:
    """A file that nothing would read is a slip."""
    assert access.fault(_HTTP, "ALLOW").startswith(begins)


def test_each_of_several_urls_is_looked_at() -> None:
    """One that stands in for the first gets the password too."""
    access = Access("https://host,http://other", "user", "/password", Tls("X_"))

    assert "would send the password to other:80" in access.fault(_HTTP, "ALLOW", several=True)
    assert not access.fault(_HTTP, "", several=True)


@pytest.mark.parametrize(("skips", "is_exposed"), [("", True), ("localhost", False)])
def test_a_proxy_of_the_environment_is_on_the_way(
    monkeypatch: pytest.MonkeyPatch,
    skips: str,
    is_exposed: bool,  # noqa: FBT001  (a row's column)
) -> None:
    """A registry's client goes through it, even to this machine."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", skips)
    access = Access("http://localhost:8081", "user", "/password", Tls("X_"), takes_proxies=True)

    assert ("HTTP_PROXY" in access.fault(_HTTP, "ALLOW")) is is_exposed
