"""What does a store's URL consist of, and how is it shown? Passwords and options are for drivers only."""

from __future__ import annotations

import re

#: Schemes of files and memory: an `@` in a path hides nothing.
_LOCAL = ("sqlite:", "memory:")


def split_urls(url: str) -> list[str]:
    """The databases of a store: several have commas between them, as may the hosts of one URL."""
    return re.split(r",(?=\w+://)", url)


def without_passwords(url: str) -> str:
    """A store's URL as people may see it. What cannot be told apart from a password is left out with it."""
    return ",".join(_without_password(one) for one in split_urls(url))


def is_postgres(url: str) -> bool:
    """True for the URL of a PostgreSQL database."""
    return url.partition("://")[0] in {"postgresql", "postgres"}


def _without_password(url: str) -> str:
    if url.startswith(_LOCAL):
        return url
    scheme, separator, rest = url.partition("?")[0].partition("://")
    login, at, place = rest.rpartition("@")  # the last: a password may hold others, although it should not
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{place}"
