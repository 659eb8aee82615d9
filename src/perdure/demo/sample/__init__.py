"""The sample that the demo ships: invented suppliers, and what happens to their invoices."""
