"""The contract's rows on the pixel: one event in a query, and an image no matter what becomes of it."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from tests.contract.rows import Row, error
from tests.contract.rows_of_events import ID
from tests.contract.rows_of_keys import KEYS, PAGE

PATH: Final = "/collect/pixel.gif"
NEW: Final = {"cache-control": "no-store", "x-durability": "broker", "x-error-code": None}


def pixel(  # noqa: PLR0913, PLR0917  (what rows differ in)
    rule: str,
    status: int,
    query: str,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    house: str = "open",
) -> Row:
    """Return the row of one image; a good one is one event."""
    is_taken = status == 200 and method == "GET"
    bears = NEW if is_taken else {"cache-control": "no-store", "x-durability": None, "x-error-code": code}
    return Row(
        rule,
        status,
        path=f"{PATH}?{query}",
        method=method,
        headers=headers or {},
        bears=bears,
        events=int(is_taken),
        house=house,
    )


WEB: Final = urlencode({"eventType": "VIEW", "clientId": "web"})

TAKEN: Final = [
    pixel("an image is an event", 200, "eventType=VIEW"),
    pixel("parameters are members", 200, f"eventType=view&clientId=mail&eventId={ID}&campaign=may&timestamp=1"),
    pixel("numbers and flags are read", 200, "eventType=PING&active=true&counter=7&premiumContent=false"),
    pixel('"" is absent', 200, "eventType=VIEW&clientId=&active=&pingId&&"),
    pixel("what is repeated is a list", 200, "eventType=VIEW&contentTags=a&x=1&x=2"),
    pixel(
        "a cookie, an ETag and a range change nothing",
        200,
        "eventType=VIEW",
        headers={"Cookie": "a=b", "If-None-Match": "*", "Range": "bytes=0-0"},
    ),
    pixel("a page of any origin may show it", 200, "eventType=VIEW", headers={"Origin": PAGE}),
    pixel("what other purposes browsers have", 200, "eventType=VIEW", headers={"Purpose": "view"}),
]

REFUSED: Final = [
    pixel("no query", 400, "", "bad_event_required"),
    pixel("an image of an unknown type", 400, "eventType=CLIK", "bad_event_enum"),
    pixel("an image with a bad id", 400, "eventType=VIEW&pingId=x", "bad_event_format"),
    pixel("an image with a bad flag", 400, "eventType=VIEW&active=yes", "bad_event_type"),
    pixel("a field is no list", 400, "eventType=VIEW&clientId=a&clientId=b", "bad_event_type"),
    pixel("an image that is no UTF-8", 400, "eventType=VIEW&x=%ff", "bad_event_json"),
    pixel("nor half a character", 400, "eventType=VIEW&%ed%a0%80=1", "bad_event_json"),
    pixel("an image from a bad Host", 400, "eventType=VIEW", "bad_host", {"Host": "a b"}),
    *(
        pixel(f"a fetch before anybody looks is no event: {name}", 403, "eventType=VIEW", "prefetch", {name: value})
        for name, value in (
            ("Sec-Purpose", "prefetch;prerender"),
            ("Purpose", "Prefetch"),
            ("X-Purpose", "preview"),
            ("X-Moz", "prefetch"),
        )
    ),
    pixel("a question for the image is no event", 200, "eventType=VIEW", method="HEAD"),
    Row(
        "an image is not posted",
        405,
        b"",
        error(405, "the route takes GET, HEAD, OPTIONS"),
        path=PATH,
        bears={"allow": "GET, HEAD, OPTIONS"},
    ),
]

KEYED: Final = [
    pixel("an image without a key", 401, WEB, "no_key", house="keyed"),
    pixel("an image with a key", 200, f"{WEB}&key={KEYS['web']}", house="keyed"),
    pixel("the key may stand first", 200, f"key={KEYS['web']}&{WEB}", house="keyed"),
    pixel("an image with an unknown key", 401, f"{WEB}&key=x", "unknown_key", house="keyed"),
    pixel("an image with a disabled key", 403, f"{WEB}&key={KEYS['lost']}", "key_disabled", house="keyed"),
    pixel("a question for the image needs a key too", 401, WEB, "no_key", method="HEAD", house="keyed"),
    pixel(
        "an image that names no client", 400, f"eventType=VIEW&key={KEYS['web']}", "bad_event_required", house="keyed"
    ),
    pixel(
        "an image of another client",
        403,
        f"eventType=VIEW&clientId=app&key={KEYS['web']}",
        "other_client",
        house="keyed",
    ),
    pixel(
        "an image on another page",
        403,
        f"{WEB}&key={KEYS['web']}",
        "origin_not_allowed",
        {"Origin": "https://evil.example"},
        house="keyed",
    ),
]

ROWS: Final = [*TAKEN, *REFUSED, *KEYED]
