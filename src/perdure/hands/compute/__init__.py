"""Bodies of tools in processes of their own: here, or on a Ray cluster. What crosses over is JSON text."""
