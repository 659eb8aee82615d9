"""The demo: a billing reconciliation that pays what is due, survives kill -9, and shows its evidence."""
