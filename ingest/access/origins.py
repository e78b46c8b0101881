"""Parses origins of pages and apps: https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin."""

import re
from typing import Final

ANY: Final = "*"
_WEB: Final = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?"
# Apps and extensions: capacitor://localhost, chrome-extension://<id>, safari-web-extension://<ID>, file://
_APP: Final = r"(?!https?:)[a-z][a-z0-9+.-]*://[A-Za-z0-9._:-]*"
_ORIGIN: Final = re.compile(f"null|{_WEB}|{_APP}")


def is_origin(text: str) -> bool:
    """Tell whether a text is an origin as browsers write it: no path, scheme and host in lower case, or "null"."""
    return _ORIGIN.fullmatch(text) is not None


def read_origins(text: str) -> tuple[str, ...]:
    """Read allowed origins: "*" for any, else comma-separated origins as browsers write them; "" allows none.

    Raises:
        ValueError: an element is no origin (scheme, host in lower case, port if not the default; no path).
    """
    origins = tuple(element.strip() for element in text.split(",")) if text.strip() else ()
    for origin in origins:
        if origin != ANY and not is_origin(origin):
            raise ValueError(f"{origin!r} is no origin such as https://www.example.com")
    return origins
