"""Which certificates count, and what is wrong with a file of them: one sentence with the setting's name."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.transport.tls import Tls
from tests.support.certificates import Authority, Pair, encrypted


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for keys."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """An authority."""
    return Authority(directory)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A certificate and its key."""
    return authority.pair("one")


@pytest.fixture(scope="module")
def other(authority: Authority) -> Pair:
    """Another one."""
    return authority.pair("two")


@pytest.fixture
def faulty(directory: Path, pair: Pair) -> dict[str, str]:
    """Files that can't be used, by what is wrong with them."""
    made = {"empty": b"", "binary": b"\xff\xfe\x00", "key": pair.key.read_bytes()}
    made["broken"] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    made["broken key"] = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for name, content in made.items():
        (directory / name).write_bytes(content)
    return {name: str(directory / name) for name in (*made, "missing")} | {"directory": str(directory)}


@pytest.mark.parametrize("name", ["CA_FILE", "CERTIFICATE_FILE", "KEY_FILE"])
@pytest.mark.parametrize("fault", ["missing", "directory", "empty", "binary", "broken", "broken key"])
def test_a_file_that_can_not_be_used_is_named(name: str, fault: str, faulty: dict[str, str], pair: Pair) -> None:
    """By its setting and its path, in one line."""
    files = {"certificate_file": str(pair.certificate), "key_file": str(pair.key)} | {name.lower(): faulty[fault]}

    with pytest.raises(ValueError, match=rf"\AX_{name}: .*{faulty[fault]}.*\Z"):
        Tls("X_", **files).context()


def test_a_key_of_another_certificate_is_named(pair: Pair, other: Pair) -> None:
    """Both files are in the sentence."""
    with pytest.raises(
        ValueError, match=rf"X_KEY_FILE: the key in {other.key} does not belong to .*{pair.certificate}"
    ):
        Tls("X_", "", str(pair.certificate), str(other.key)).context()


def test_an_encrypted_key_asks_nobody_for_its_passphrase(pair: Pair) -> None:
    """OpenSSL would ask at the terminal, and a service would wait there for ever."""
    with pytest.raises(ValueError, match=r"X_KEY_FILE: .*the key is encrypted"):
        Tls("X_", "", str(pair.certificate), str(encrypted(pair, "a secret"))).context()


def test_key_and_certificate_may_stand_in_one_file(pair: Pair) -> None:
    """As many tools write them; without a key there the sentence names that file."""
    assert Tls("X_", "", str(pair.both)).context()
    with pytest.raises(ValueError, match=r"X_CERTIFICATE_FILE: .* holds no private key in PEM form"):
        Tls("X_", "", str(pair.certificate)).context()


def test_an_authority_of_our_own_is_the_only_one(authority: Authority) -> None:
    """Else anybody with a certificate from a public one could stand in for the server."""
    assert [item["subject"] for item in Tls("X_", str(authority.file)).context().get_ca_certs()] == [
        ((("commonName", "headrace test ca"),),)
    ]


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> BaseException | None:
    """Let two contexts meet over a pair of sockets; return what the client hears."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)

    def serve() -> None:
        with theirs, suppress(OSError), server.wrap_socket(theirs, server_side=True) as secured:
            secured.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=name) as secured:
            secured.recv(1)
    except OSError as error:
        return error
    finally:
        thread.join()
    return None


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("wrong authority", "X_CA_FILE: no trusted authority has signed the certificate at there"),
        ("no authority", "X_CA_FILE: no trusted authority has signed the certificate at there"),
        ("wrong host", "X_URL: the certificate at there is for another host name"),
        ("expired", "X_URL: the certificate at there has expired"),
        ("not yet", "X_URL: the certificate at there is not valid yet"),
        ("no client certificate", "X_CERTIFICATE_FILE: there wants a client certificate"),
        ("strange client certificate", "X_CERTIFICATE_FILE: there does not trust our certificate"),
        ("well", ""),
    ],
)
def test_a_refused_handshake_is_one_sentence(case: str, says: str, authority: Authority, tmp_path: Path) -> None:
    """With the setting that may help, and no traceback."""
    stranger = Authority(tmp_path, "stranger")
    ages = {"expired": 30, "not yet": -30}
    shown = authority.pair("server", ("server.example",), ages.get(case, 0))
    server = authority.server(shown, wants_client="client certificate" in case)
    files = {"wrong authority": str(stranger.file), "no authority": ""}
    ours = stranger.pair("client") if case == "strange client certificate" else None
    tls = Tls("X_", files.get(case, str(authority.file)), *(map(str, ours) if ours else ()))

    heard = handshake(tls.context(), server, "other.example" if case == "wrong host" else "server.example")

    assert (tls.explain(RuntimeError(heard), "there") if heard else "").startswith(says)
    assert (heard is None) is (case == "well")


def test_a_server_that_goes_away_is_no_fault_of_certificates() -> None:
    """An outage is waited for; a sentence about certificates would mislead."""
    for error in (ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed"), ConnectionResetError(104, "reset")):
        assert not Tls("X_").explain(error, "there")


def test_certificates_are_judged_alike_by_every_python(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    """Python 3.13 asks more of an authority's certificate, and less of its chain."""
    made = ssl.create_default_context()
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: made)
    flags = Tls("X_", ca_file=str(authority.file)).context().verify_flags

    assert not flags & (ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
