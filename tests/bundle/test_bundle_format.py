from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer

import nlpkit
from nlpkit.bundle.format import read_bundle
from nlpkit.bundle.load import load
from nlpkit.files import seal_of
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "nlpkit.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "model.safetensors",
)


def change(path: Path, **values: object) -> None:
    """Edits nlpkit.json as a program would that knows nothing of the seal."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def reseal(path: Path, **values: object) -> None:
    """Edits nlpkit.json as somebody would who knows of the seal."""
    description = {**json.loads(path.read_text()), **values}
    description = {k: v for k, v in description.items() if v != "gone" and k != "seal"}
    path.write_text(json.dumps({**description, "seal": seal_of(description)}))


def test_same_run_twice_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    again = make_run(tmp_path / "elsewhere" / "another-name")
    assert sorted(path.name for path in (run / "bundle").iterdir()) == sorted(FILES)
    for name in FILES:
        assert (again / "bundle" / name).read_bytes() == (run / "bundle" / name).read_bytes()


def test_a_run_folder_and_its_bundle_are_the_same_bundle(run: Path) -> None:
    from_run, from_bundle = read_bundle(run), read_bundle(run / "bundle")
    assert from_run.path == from_bundle.path


def test_description_says_what_the_model_is_and_who_gave_its_parts(run: Path) -> None:
    bundle = read_bundle(run)
    assert bundle.schema["labels"] == ["arrival", "balance", "lost"]
    assert bundle.head.size == 3
    assert bundle.vocabulary.max_length == 16
    assert bundle.inputs == ("input_ids", "attention_mask")
    assert bundle.model.options["hidden"] == 16
    assert bundle.description["task"]["distribution"] == "nlpkit-sdk"
    assert bundle.description["task"]["version"] == nlpkit.__version__
    assert bundle.description["versions"]["torch"]


def test_vocab_txt_lists_the_tokens_by_id(run: Path) -> None:
    tokenizer = Tokenizer.from_file(str(run / "bundle" / "tokenizer.json"))
    tokens = (run / "bundle" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert [tokenizer.token_to_id(token) for token in tokens] == list(range(len(tokens)))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_and_its_file_named(run: Path, name: str) -> None:
    path = run / "bundle" / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(nlpkit.BundleError, match=f"{name}: (is|was changed or is) damaged"):
        load(run)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found_and_named(run: Path, name: str) -> None:
    path = run / "bundle" / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(nlpkit.BundleError, match=f"{name}: is damaged"):
        read_bundle(run)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / "bundle" / name).unlink()
    with pytest.raises(nlpkit.BundleError, match=f"{name}: is missing"):
        read_bundle(run)


def test_a_newer_format_is_refused_by_name(run: Path) -> None:
    change(run / "bundle" / "nlpkit.json", format=2)
    with pytest.raises(nlpkit.BundleError, match=r"written by a newer nlpkit \(format 2"):
        read_bundle(run)


@pytest.mark.parametrize("format_", [None, "1", 0])
def test_no_known_format_is_refused(run: Path, format_: object) -> None:
    change(run / "bundle" / "nlpkit.json", format=format_)
    with pytest.raises(nlpkit.BundleError, match="no format that nlpkit knows"):
        read_bundle(run)


def test_changed_labels_are_found(run: Path) -> None:
    change(run / "bundle" / "nlpkit.json", schema={"labels": ["lost", "arrival", "balance"]})
    with pytest.raises(nlpkit.BundleError, match="was changed or is damaged"):
        read_bundle(run)


@pytest.mark.parametrize(
    "key", ["task", "schema", "model", "vocabulary", "head", "plugins", "files"]
)
@pytest.mark.parametrize("value", [None, 5, "gone"])
def test_a_description_that_was_sealed_without_what_it_needs_is_refused(
    run: Path, key: str, value: object
) -> None:
    path = run / "bundle" / "nlpkit.json"
    reseal(path, **{key: value})
    with pytest.raises(nlpkit.BundleError, match=r"nlpkit\.json: "):
        read_bundle(run)


@pytest.mark.parametrize("plugin", ["../x.py", "/tmp/x.py", "plugins/../x.py", "x.py", "a b", 5])
def test_a_plugin_outside_of_its_place_is_refused(run: Path, plugin: object) -> None:
    reseal(run / "bundle" / "nlpkit.json", plugins=[plugin])
    with pytest.raises(nlpkit.BundleError, match=r"nlpkit\.json: "):
        load(run, trust_plugins=True)


def test_a_plugin_that_is_not_sealed_is_not_executed(run: Path) -> None:
    reseal(run / "bundle" / "nlpkit.json", plugins=["plugins/late.py"])
    (run / "bundle" / "plugins").mkdir()
    (run / "bundle" / "plugins" / "late.py").write_text("raise SystemExit('executed')")
    with pytest.raises(nlpkit.BundleError, match=r"plugins/late\.py"):
        load(run, trust_plugins=True)


@pytest.mark.parametrize("path", [None, 5, ["runs/cards"]])
def test_what_is_no_path_is_no_bundle(path: object) -> None:
    with pytest.raises(nlpkit.BundleError, match="is named by its path"):
        load(path)  # type: ignore[arg-type]


def test_a_run_that_did_not_finish_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "half", sealed=False)
    with pytest.raises(nlpkit.BundleError, match="the run did not finish"):
        read_bundle(run)


def test_a_run_without_a_bundle_did_not_finish(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\n")
    (tmp_path / "environment.json").touch()
    with pytest.raises(nlpkit.BundleError, match="the run did not finish, so it has no bundle"):
        read_bundle(tmp_path)


def test_a_misspelt_run_is_answered_with_the_run_that_was_meant(run: Path) -> None:
    with pytest.raises(nlpkit.BundleError, match=r"no such folder; did you mean .*runs/cards\?"):
        read_bundle(run.with_name("crads"))


def test_a_folder_of_runs_is_answered_with_the_runs_in_it(run: Path) -> None:
    with pytest.raises(nlpkit.BundleError, match=r"neither a run folder nor a bundle; .*: cards"):
        read_bundle(run.parent)


def test_a_file_is_no_bundle(run: Path) -> None:
    with pytest.raises(nlpkit.BundleError, match="neither a run folder nor a bundle"):
        read_bundle(run / "bundle" / "nlpkit.json")


def test_reading_a_bundle_imports_no_torch(run: Path) -> None:
    code = (
        "import sys; import nlpkit.bundle.load; from nlpkit.bundle.format import read_bundle; "
        f"read_bundle({str(run)!r}); "
        "print([name for name in ('torch', 'transformers', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_project_is_told_from_a_run_that_did_not_finish(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: mine\n")
    message = rf"is a project, not a run; train it: nlpkit train {tmp_path}/config\.yaml"
    with pytest.raises(nlpkit.BundleError, match=message):
        read_bundle(tmp_path)
    make_run(tmp_path / "runs" / "cards")
    with pytest.raises(nlpkit.BundleError, match=r"is a project, not a run; runs in .*: cards"):
        read_bundle(tmp_path)
