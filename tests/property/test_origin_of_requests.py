"""Whatever headers a client sends, they name nobody but the hop that a trusted one names."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from ingest.http.client_ip import client_address, private_form, read_networks
from ingest.http.trace import request_id_of, trace_id_of

TRUSTED = read_networks("10.0.0.0/8, fd00::/8")
CLIENTS = st.one_of(st.ip_addresses(v=4, network="203.0.113.0/24"), st.ip_addresses(v=6, network="2001:db8::/32"))
PROXIES = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
"""What a header can hold, as WSGI hands it over."""


@given(TEXT, st.lists(TEXT, max_size=5))
def test_any_header_gives_an_address_or_none(peer: str, hops: list[str]) -> None:
    """No text makes the walk fail, and what comes out is canonical, in every form of privacy."""
    address = client_address(peer, ",".join(hops), TRUSTED)

    assert address == "" or str(ip_address(address)) == address
    for kept in (private_form(address, "full"), private_form(address, "truncated"), private_form(address, "none")):
        assert kept == "" or str(ip_address(kept)) == kept


@given(CLIENTS, TEXT, st.lists(PROXIES, min_size=1, max_size=4))
def test_a_client_cannot_say_who_it_is(client: object, said: str, proxies: list[str]) -> None:
    """What a client writes into the header stands left of its own address, and is not reached."""
    *before, peer = proxies

    assert client_address(peer, ",".join([said, str(client), *before]), TRUSTED) == str(client)


@given(CLIENTS, TEXT)
def test_a_stranger_is_not_believed(client: object, said: str) -> None:
    """A peer that is no trusted proxy is the client, whatever it says."""
    assert client_address(str(client), said, TRUSTED) == str(client)


@given(TEXT)
def test_any_name_is_taken_whole_or_not_at_all(text: str) -> None:
    """A request id is the caller's text itself or nothing; a trace id is 32 hexadecimal digits of it or nothing."""
    assert request_id_of(text) in {text, ""}
    trace_id = trace_id_of(text)
    assert trace_id == "" or (len(trace_id) == 32 and trace_id in text)


@given(st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_a_traceparent_of_the_right_form_is_read(header: str) -> None:
    """All but the all-zero ids that the specification forbids."""
    _, trace_id, span_id, _ = header.split("-")

    assert trace_id_of(header) == (trace_id if trace_id.strip("0") and span_id.strip("0") else "")
