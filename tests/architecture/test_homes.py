"""Who has no home, as in a container with another uid, is refused nothing for want of one."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_no_path_is_expanded_by_what_raises_where_there_is_no_home():
    found = [
        str(path.relative_to(REPOSITORY))
        for folder in ("nlpkit", "plugins", "jobs")
        for path in (REPOSITORY / folder).rglob("*.py")
        if ".expanduser()" in path.read_text("utf-8")
    ]
    assert found == []  # os.path.expanduser leaves a ~ of nobody as it is
