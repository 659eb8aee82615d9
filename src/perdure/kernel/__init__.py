"""The kernel decides and records: admit, settle, timers, signals, recovery. It reaches the world through Protocols."""
