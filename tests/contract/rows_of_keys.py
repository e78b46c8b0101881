"""The contract's rows on a collector with a client registry."""

from hashlib import sha256
from typing import Final

from tests.contract.rows import Row, bad_event, error, request, shown, taken
from tests.contract.rows_of_events import ID, OTHER_ID, VIEW

PAGE: Final = "https://www.example.com"
KEYS: Final = {name: f"hrk_{name}" for name in ("web", "spare", "lost", "app")}
_HASHES: Final = {name: f"sha256:{sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()}
REGISTRY: Final = f"""
[clients.web]
name = "Web site"
keys = ["{_HASHES["web"]}", "{_HASHES["spare"]}"]
disabled_keys = ["{_HASHES["lost"]}"]
origins = ["{PAGE}"]
rate_limit = 500
address_share = 1

[clients.app]
name = "App"
keys = ["{_HASHES["app"]}"]
enabled = false
"""
WEB: Final = request(VIEW | {"clientId": "web", "pingId": ID})
ONE: Final = request(VIEW)
_WANTED: Final = "a key is required, as X-API-Key, Authorization: Bearer or ?key="
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="headrace"'}
_OTHER: Final = error(403, "an event names another clientId than the key's")

ROWS: Final = [
    Row("no key", 401, WEB, error(401, _WANTED), house="keyed", bears=_CHALLENGE),
    Row(
        "an unknown key",
        401,
        WEB,
        error(401, "the key is unknown"),
        headers=shown(X_API_Key="x"),
        house="keyed",
        bears=_CHALLENGE,
    ),
    Row(
        "a disabled key",
        403,
        WEB,
        error(403, "the key is disabled"),
        headers=shown(X_API_Key=KEYS["lost"]),
        house="keyed",
    ),
    Row(
        "a disabled client",
        403,
        WEB,
        error(403, "the client is disabled"),
        headers=shown(X_API_Key=KEYS["app"]),
        house="keyed",
    ),
    Row(
        "another page",
        403,
        WEB,
        error(403, "the client's key does not allow this origin"),
        headers=shown(X_API_Key=KEYS["web"], Origin="https://evil.example"),
        house="keyed",
    ),
    Row(
        "its own page", 201, WEB, taken(ID), headers=shown(X_API_Key=KEYS["web"], Origin=PAGE), house="keyed", events=1
    ),
    Row(
        "X-API-Key, and the client's own limit",
        201,
        WEB,
        taken(ID),
        headers=shown(X_API_Key=KEYS["web"]),
        house="keyed",
        bears={"x-ratelimit-limit": "500"},
        events=1,
    ),
    Row(
        "a bearer token",
        201,
        WEB,
        taken(ID),
        headers=shown(Authorization=f"Bearer {KEYS['spare']}"),
        house="keyed",
        events=1,
    ),
    Row("the query", 201, WEB, taken(ID), path=f"/collect/event?key={KEYS['web']}", house="keyed", events=1),
    Row(
        "clientId is required",
        400,
        ONE,
        bad_event(0, "clientId", "required", "clientId is required"),
        headers=shown(X_API_Key=KEYS["web"]),
        house="keyed",
    ),
    Row(
        "another client's event",
        403,
        request(VIEW | {"clientId": "web"}, VIEW | {"clientId": "app"}),
        _OTHER,
        headers=shown(X_API_Key=KEYS["web"], Prefer="handling=lenient"),
        house="keyed",
    ),
    Row("a dry run needs a key too", 401, WEB, path="/collect/validate", house="keyed"),
    Row("a probe does not", 200, method="GET", path="/healthz", house="keyed"),
    Row(
        "ids follow the key's client",
        201,
        request(VIEW | {"clientId": "web", "eventId": OTHER_ID}, VIEW | {"clientId": "web"}),
        taken(OTHER_ID, "ac6ae464-7b58-530c-bd83-0715c711eab9"),
        headers=shown(X_API_Key=KEYS["web"], Idempotency_Key="order-1"),
        house="keyed",
        events=2,
    ),
]
