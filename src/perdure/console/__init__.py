"""The page in the browser: static files (static/) and the endpoints that serve them (pages.py)."""
