"""The run as a pure state machine: a deterministic asyncio loop, commands out, events in. No I/O, no clock."""
