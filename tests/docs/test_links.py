"""Links of the documentation lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, REPOSITORY, headings, prose

TEXTS = [*PAGES, *(REPOSITORY / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(page))
    return {heading.replace(" ", "-") for heading in kept}


PAGE = pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(REPOSITORY)))


@PAGE
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@PAGE
def test_no_line_ends_in_white_space_and_no_paragraph_is_wider_than_a_screen(page):
    for line in prose(page).splitlines():
        assert line == line.rstrip()
        assert len(line) <= 160 or line.startswith("|"), line
