"""Pure decisions about what may happen: consent now; policy, identity, budgets and taint later."""
