from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.errors import ConfigError

if TYPE_CHECKING:
    from nlpkit.plugin.host import Host

BROKEN = sorted(Path(__file__).parent.glob("broken/*.yaml"))


def _comments(path: Path, label: str) -> list[str]:
    lines = path.read_text().splitlines()
    return [line.removeprefix(label) for line in lines if line.startswith(label)]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_problem_is_named_with_its_line_and_a_remedy(path: Path, host: Host) -> None:
    expected = [
        text.format(file=path) if "{file}" in text else text
        for text in _comments(path, "# expect: ")
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(path, _comments(path, "# override: ")), host)
    problems = [str(problem) for problem in caught.value.problems]
    for text in expected:
        assert any(text in problem for problem in problems), "\n".join(problems)
    assert len(problems) == len(expected), "\n".join(problems)
