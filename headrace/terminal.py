"""Text for a terminal: what clients and servers wrote is shown, and never obeyed."""


def plain(text: str) -> str:
    """Return a text on one line, with everything that is not printable escaped: control characters, line ends."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
