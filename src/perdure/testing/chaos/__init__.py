"""Does anything get lost or happen twice when real processes, networks and databases fail, again and again, under load?

    python -m perdure.testing.chaos [--store postgresql://...] [--fault NAME] [--count N] [--seed S] [--dir DIR] [--json]

Without a store, a worker on a SQLite file is killed. With `--store postgresql://user@host/database`, workers of a cluster
meet every fault in turn, each in a new database beside that one; `--store postgresql://` starts a server for it.
"""
