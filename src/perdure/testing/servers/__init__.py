"""Real servers for tests, yours and ours: PostgreSQL with standbys, PgBouncer, and a proxy that breaks connections. Public.

Each runs unprivileged on 127.0.0.1, many at a time, and none outlives the process that started it.
"""
