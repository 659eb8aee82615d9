"""The kernel decides and records: admit, settle, timers, signals, recovery. Reaches the world only through Protocols."""
