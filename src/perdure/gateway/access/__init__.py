"""Who calls, and what may they do? Keys, the console's cookies, tokens of others, and how often."""
