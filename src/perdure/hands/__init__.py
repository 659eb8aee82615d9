"""What acts on the world: tools now; models, sandboxes and secrets later. Takes admitted calls, returns results."""
