"""The file of a pool's policy, which people edit while the pool runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlpkit.errors import ConfigError, InputError
from nlpkit_ray.decide import Policy
from nlpkit_ray.policy import read_policy
from nlpkit_ray.pool import Pool

READY = Path(__file__).parents[2] / "jobs" / "pool.yaml"


def test_without_a_file_the_defaults_hold_and_off_is_no_queue() -> None:
    assert read_policy(None) == read_policy("") == Policy()
    assert read_policy("off") == Policy(off=True)


def test_the_ready_file_says_what_its_comments_say() -> None:
    found = read_policy(str(READY))
    assert found == Policy(gpus_per_user=8, users={"nightly": 2})
    assert [found.limit("nightly"), found.limit("ada")] == [2, 8]


@pytest.mark.parametrize("text", ["", "# nothing\n", "users: {}\n"])
def test_what_is_left_out_is_the_default(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    assert read_policy(str(path)) == Policy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("age_hours: 2\novertakes: 3\n", ':2: overtakes: unknown key; did you mean "overtake"?'),
        ("overtake: -1\n", ":1: overtake: "),
        ("waiting: 0\n", ":1: waiting: "),
        (
            "users:\n  ada: {gpus: 2, gpu: 2}\n",
            ':2: users.ada.gpu: unknown key; did you mean "gpus"?',
        ),
        ("users:\n  ada: 2\n", ":2: users.ada: "),
        ("overtake: 4\novertake: 5\n", ":2: overtake: "),
        ("overtake: [\n", ":2: "),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_policy(str(path))
    assert str(raised.value).startswith(f"{path}{says}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NLPKIT_POOL: .*none\.yaml: No such file"):
        read_policy(str(tmp_path / "none.yaml"))


def test_while_the_file_is_wrong_what_it_said_before_holds(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("overtake: 7\n")
    pool = Pool(str(path))
    pool._read()
    path.write_text("overtake: many\n")
    pool._read()
    assert pool._policy == Policy(overtake=7)
    assert "pool.yaml:1: overtake: " in pool._fault
    path.write_text("overtake: 8\n")
    pool._read()
    assert (pool._policy, pool._fault) == (Policy(overtake=8), "")
