"""For all tests: the processes that they start can be interrupted, however the tests themselves were started."""

from __future__ import annotations

import signal

from tests.postgres import postgres_databases, postgres_server, postgres_url

__all__ = ["postgres_databases", "postgres_server", "postgres_url"]

# A shell starts what is to run in the background with Ctrl-C ignored, and whoever ignores a signal hands that on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
