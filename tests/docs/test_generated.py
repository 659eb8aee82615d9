"""Are the generated pages what the code generates?"""

from __future__ import annotations

from pathlib import Path

from perdure.values.events import catalogue_markdown

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_page_of_events_is_the_catalogue():
    """docs/events.md is generated; after a change: python -c "...catalogue_markdown()" > docs/events.md."""
    assert (DOCS / "events.md").read_text(encoding="utf-8") == catalogue_markdown()
