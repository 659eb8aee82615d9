"""The command line: parses words, calls a Runtime, prints what came of it. It decides nothing about runs itself."""
