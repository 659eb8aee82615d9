"""For all tests: servers that they may ask for; and their processes can be interrupted, however they were started."""

from __future__ import annotations

import importlib.util
import signal

# The journal's tests also run on Pythons that have no database's driver.
if importlib.util.find_spec("psycopg") is not None:
    from tests.postgres import bare_postgres_url, pooler, postgres_databases, postgres_server, postgres_url

    __all__ = ["bare_postgres_url", "pooler", "postgres_databases", "postgres_server", "postgres_url"]

# A shell starts what is to run in the background with Ctrl-C ignored, and whoever ignores a signal hands that on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
