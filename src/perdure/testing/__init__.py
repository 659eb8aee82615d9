"""For tests, yours and ours: fake time, faults, a simulator, and the suites a store must pass. Public."""
