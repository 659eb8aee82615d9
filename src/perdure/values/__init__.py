"""Values: the frozen nouns every layer speaks. Imports nothing of ours, does no I/O."""
