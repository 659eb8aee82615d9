"""The exit codes, as docs/contract.md promises them."""

OK = 0
#: the run failed, or the command could not do what it was told
FAILED = 1
#: what was typed makes no sense: options, JSON, input types, files
USAGE = 2
#: the run waits for something from outside
WAITING = 3
#: the run was cancelled
CANCELLED = 4
#: Ctrl-C, where nothing else was promised: as shells have it
INTERRUPTED = 130
