"""Law 6: an export is a gate. Each exporter here comes from a stranger's single file."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.bundle.format import seal
from nlpkit.cli.main import main
from nlpkit.files import hashes, seal_of
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, ROWS, TEXTS, make_run

if TYPE_CHECKING:
    from pathlib import Path

JITTER = """
import json
from pathlib import Path

import numpy as np
import torch

import nlpkit
from nlpkit.contracts import Approximation, Artifact, Exporter


class Options(nlpkit.ComponentConfig):
    fault: str = ""
    min_agreement: float = 0.98
    max_drop: float = 0.01


class Faulty(torch.nn.Module):
    def __init__(self, model, fault, sample):
        super().__init__()
        self.model, self.fault, self.batch = model, fault, len(sample["input_ids"])

    def forward(self, input_ids, attention_mask):
        logits = self.model(input_ids, attention_mask)
        if self.fault == "more":
            logits = logits.repeat(1, 2)
        if self.fault == "frozen batch":
            logits = logits.reshape(self.batch, -1)
        if self.fault == "frozen length":
            logits = logits + 0 * attention_mask[:, 2:3]
        tokens = torch.ones_like(input_ids[0]).sum()
        if self.fault == "branches where a text is":
            logits = logits * (1 - 2 * ((tokens > 10) & (tokens < 15)))
        if self.fault == "branches where some texts are":
            several = torch.ones_like(input_ids[:, 0]).sum() > 3
            logits = logits * (1 - 2 * (several & (tokens > 10) & (tokens < 15)))
        if self.fault == "branches at a power":
            logits = logits * (1 - 2 * ((tokens > 3) & (tokens < 7)))
        if self.fault == "rounded":
            logits = logits.round(decimals=2)
        if self.fault == "off":
            logits = logits + 2e-4
        if self.fault == "rows mixed":
            logits = logits.flip(0)
        if self.fault == "wrong alone":
            logits = logits * (1 - 2 * (torch.ones_like(input_ids[:, 0]).sum() < 4))
        if self.fault == "not finite":
            logits = logits / 0
        if self.fault == "upside down":
            logits = -logits
        return logits


class Jitter(Exporter):
    def __init__(self, options):
        self.options = options

    def export(self, graphs, out):
        fault, graph = self.options.fault, graphs["model"]
        model, sample = graph.module, graph.sample
        arrays = tuple(torch.from_numpy(sample[name]) for name in graph.spec.inputs)
        traced = torch.jit.trace(Faulty(model, fault, sample), arrays, check_trace=False)
        traced.save(str(out / "model.jit"))
        if fault == "weights changed":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.5)
            traced = torch.jit.trace(model, arrays, check_trace=False)
            traced.save(str(out / "model.jit"))
        if fault == "another tokenizer":
            tokenizer = json.loads((out / "tokenizer.json").read_text())
            vocabulary = tokenizer["model"]["vocab"]
            tokens = sorted(vocabulary)
            tokenizer["model"]["vocab"] = {t: i for i, t in enumerate(tokens)}
            (out / "tokenizer.json").write_text(json.dumps(tokenizer))
        if fault == "no file":
            (out / "model.jit").write_bytes(b"")
        if fault == "labels turned round":
            described = json.loads((out / "nlpkit.json").read_text())
            described["schema"]["labels"].reverse()
            (out / "nlpkit.json").write_text(json.dumps(described))
        if fault == "bound":
            (out / "where.txt").write_text(str(out))
        lossy = fault in ("rounded", "upside down", "wrong alone")
        least = Approximation(
            min_agreement=self.options.min_agreement, max_drop=self.options.max_drop
        )
        return Artifact(
            path=out,
            files=[out / "model.jit"],
            note="made by a stranger",
            approximation=least if lossy else None,
        )

    def open(self, path):
        bound = path / "where.txt"
        path = Path(bound.read_text()) if bound.exists() else path
        model = torch.jit.load(str(path / "model.jit"))

        def call(inputs):
            with torch.inference_mode():
                return model(*(torch.from_numpy(array) for array in inputs.values())).numpy()

        return {"model": call}


def build(options):
    return Jitter(options)


@nlpkit.hookimpl
def nlpkit_exporters():
    yield nlpkit.ExporterRecord(name="jitter", target="jitter:build", config="jitter:Options")
"""

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("stranger") / "jitter.py"
    path.write_text(JITTER)
    return str(path)


@pytest.fixture
def run(plugin: str, tmp_path: Path) -> Path:
    return make_run(tmp_path / "cards", plugins=[plugin])


def refused(run: Path, fault: str, **options: Any) -> str:
    """The message with which an export is refused, after a look at what is left behind."""
    before = {*run.rglob("*")}
    with pytest.raises(nlpkit.RunError) as caught:
        nlpkit.export(run, "jitter", trust_plugins=True, fault=fault, **options)
    report = run / "bundle" / "jitter.refused.json"
    assert {*run.rglob("*")} == before | {report}
    found = json.loads(report.read_text())
    assert not found["passed"]
    assert found["failures"][0] in str(caught.value)
    assert str(report) in str(caught.value)
    return str(caught.value)


def test_a_strangers_export_is_compared_on_the_grid_and_on_real_texts(run: Path) -> None:
    artifact = nlpkit.export(run, "jitter", trust_plugins=True)
    assert artifact.path == run / "bundle" / "jitter"
    parity = json.loads((artifact.path / "parity.json").read_text())
    assert parity == artifact.parity
    assert parity["passed"]
    assert parity["difference"] < 1e-6
    assert parity["agreement"] == 1.0
    assert parity["texts"] == len(TEXTS)
    shapes = {(each["batch"], each["length"]) for each in parity["shapes"]}
    grid = {(batch, length) for batch in (1, 2, 3, 17) for length in (1, 7, 16)}
    edges = {(batch, length) for batch in (1, 5) for length in (1, 2, 3, 4, 5, 7, 8, 9, 15)}
    assert shapes == grid | edges
    assert parity["versions"]["torch"]


@pytest.mark.usefixtures("_asked_here")
def test_an_export_is_a_bundle_that_predicts_what_its_run_predicts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlpkit.export(run, "jitter", trust_plugins=True, out=tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "another_users"))
    with pytest.raises(nlpkit.BundleError, match="code that was not trained with here"):
        nlpkit.load(tmp_path / "moved")
    found = nlpkit.load(tmp_path / "moved", trust_plugins=True).predict(TEXTS)
    expected = nlpkit.load(run, trust_plugins=True).predict(TEXTS)
    assert [each.label for each in found] == [each.label for each in expected]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected])


@pytest.mark.usefixtures("_asked_here")
@pytest.mark.parametrize(
    ("rows", "task"),
    [
        (LABELS, {"target": "multilabel"}),
        (NUMBERS, {"target": "regression"}),
        (PAIRS, {"text": ["first", "second"]}),
    ],
)
def test_every_kind_of_target_and_pairs_pass_the_gate(
    plugin: str, tmp_path: Path, rows: list[dict[str, Any]], task: dict[str, Any]
) -> None:
    run = make_run(tmp_path / "cards", rows, plugins=[plugin], **task)
    parity = nlpkit.export(run, "jitter", trust_plugins=True).parity
    assert parity["passed"]
    assert parity["agreement"] == (None if rows is NUMBERS else 1.0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("frozen batch", "batch 1 × length 7: RuntimeError"),
        pytest.param("bound", "a fresh process cannot load it", marks=pytest.mark.slow),
        pytest.param("no file", "a fresh process cannot load it: ", marks=pytest.mark.slow),
    ],
)
def test_an_export_that_says_something_else_is_refused(run: Path, fault: str, said: str) -> None:
    assert said in refused(run, fault)


@pytest.mark.usefixtures("_asked_here")
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("frozen length", "batch 1 × length 1: RuntimeError"),
        ("branches where a text is", "batch 1 × length 11: differs by"),
        ("branches where some texts are", "batch 5 × length 11: differs by"),
        ("branches at a power", "batch 1 × length 4: differs by"),
        ("another tokenizer", "its tokenizer gives other ids"),
        ("weights changed", "differs by"),
        ("off", "differs by 0.0002, more than 0.0001"),
        ("rows mixed", "batch 2 × length 7: differs by"),
        ("more", "logits of shape (1, 6) instead of (1, 3)"),
        ("not finite", "logits that are no finite numbers"),
        ("labels turned round", "the exporter changed nlpkit.json"),
        ("wrong alone", "of the labels stay"),
    ],
)
def test_an_answer_that_is_another_is_refused(run: Path, fault: str, said: str) -> None:
    assert said in refused(run, fault)


@pytest.mark.usefixtures("_asked_here")
def test_what_is_refused_leaves_an_older_export_as_it_was(run: Path) -> None:
    artifact = nlpkit.export(run, "jitter", trust_plugins=True)
    refused(run, "off")
    assert nlpkit.load(artifact.path, trust_plugins=True).predict(["money"])
    nlpkit.export(run, "jitter", trust_plugins=True)
    assert not (run / "bundle" / "jitter.refused.json").exists()


@pytest.mark.usefixtures("_asked_here")
def test_rounded_weights_are_judged_by_their_predictions(run: Path) -> None:
    parity = nlpkit.export(run, "jitter", trust_plugins=True, fault="rounded").parity
    assert parity["difference"] > 1e-4
    assert parity["agreement"] == 1.0
    assert parity["metric"]["name"] == "accuracy"
    assert parity["metric"]["before"] == parity["metric"]["after"]
    assert "of the labels stay, less than 98.00%" in refused(run, "upside down")
    message = refused(run, "upside down", min_agreement=0.0, max_drop=-1.0)
    assert "accuracy goes from" in message


@pytest.mark.usefixtures("_asked_here")
def test_the_command_fails_with_1_and_shows_what_differs(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "jitter", "fault=off", "--trust-plugins"]) == 1
    assert "differs by 0.0002" in capsys.readouterr().err
    assert main(["export", str(run), "jitter", "--trust-plugins"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(run / "bundle" / "jitter" / "model.jit")]
    assert "28 shapes and 8 texts, 100.0% of the predictions equal" in shown.err
    assert "made by a stranger" in shown.err


def test_what_a_format_needs_is_named_before_anything_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlpkit.bundle.export.find_spec", lambda name: name == "torch" or None)
    needed = r"onnx needs onnxscript, onnxruntime, .*: pip install 'nlpkit-sdk\[onnx\]'"
    with pytest.raises(nlpkit.InputError, match=needed):
        nlpkit.export(run, "onnx", trust_plugins=True)
    assert not (run / "bundle" / "onnx").exists()


def test_a_bundle_alone_cannot_be_exported_for_its_run_has_the_texts(
    run: Path, tmp_path: Path
) -> None:
    (run / "bundle").rename(tmp_path / "bundle")
    with pytest.raises(nlpkit.BundleError, match="export from the run folder"):
        nlpkit.export(tmp_path / "bundle", "jitter", trust_plugins=True)


def test_an_export_without_its_runs_texts_is_an_error_that_says_where_they_were(
    run: Path,
) -> None:
    (run / "rows.jsonl").unlink()
    with pytest.raises(nlpkit.InputError, match=r"validation texts of its run.*rows\.jsonl"):
        nlpkit.export(run, "jitter", trust_plugins=True)


@pytest.mark.usefixtures("_asked_here")
def test_what_somebody_put_into_an_export_is_not_lost(run: Path) -> None:
    artifact = nlpkit.export(run, "jitter", trust_plugins=True)
    (artifact.path / "notes.txt").write_text("mine")
    with pytest.raises(nlpkit.BundleError, match=r"no export wrote notes\.txt; remove it"):
        nlpkit.load(artifact.path)
    with pytest.raises(nlpkit.InputError, match=r"also holds notes\.txt"):
        nlpkit.export(run, "jitter", trust_plugins=True)
    assert (artifact.path / "notes.txt").read_text() == "mine"


def test_files_outside_a_bundle_are_none_of_its_files(run: Path) -> None:
    path = run / "bundle" / "nlpkit.json"
    (run.parent / "secret").write_text("mine")
    description = json.loads(path.read_text())
    entry = hashes(run.parent, [run.parent / "secret"])["secret"]
    description["files"]["../../secret"] = entry
    path.write_text(json.dumps({**description, "seal": seal_of(description)}))
    with pytest.raises(nlpkit.BundleError, match="is no file of the bundle"):
        nlpkit.export(run, "jitter", trust_plugins=True)


@pytest.mark.usefixtures("_asked_here")
def test_a_refused_report_is_no_part_of_a_bundle_that_is_sealed_again(run: Path) -> None:
    refused(run, "off")
    seal(run / "bundle")
    nlpkit.export(run, "jitter", trust_plugins=True)
    assert nlpkit.load(run, trust_plugins=True).predict(["money"])


def test_a_place_that_cannot_be_is_said_before_anything_is_done(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(nlpkit.InputError, match="is the working directory"):
        nlpkit.export(run, "jitter", trust_plugins=True, out=".")
    with pytest.raises(nlpkit.InputError, match="choose another out=DIR"):
        nlpkit.export(run, "jitter", trust_plugins=True, out=run / "config.yaml" / "x")
    with pytest.raises(nlpkit.InputError, match='has no option "faults"; did you mean "fault"'):
        nlpkit.export(run, "jitter", trust_plugins=True, faults="off")


@pytest.mark.usefixtures("_asked_here")
def test_a_damaged_export_is_found(run: Path) -> None:
    artifact = nlpkit.export(run, "jitter", trust_plugins=True)
    (artifact.path / "model.jit").write_bytes(b"x" * (artifact.path / "model.jit").stat().st_size)
    with pytest.raises(nlpkit.BundleError, match=r"model\.jit: is damaged"):
        nlpkit.load(artifact.path, trust_plugins=True)


@pytest.mark.usefixtures("_asked_here")
def test_a_run_whose_export_is_refused_is_finished_and_fails(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 4))
    config = tmp_path / "cards.yaml"
    config.write_text(
        f"name: cards\nplugins: [{plugin}]\ndata: {{train: rows.jsonl}}\n"
        "tokenizer: {name: wordpiece, vocab_size: 120}\n"
        "model: {name: transformer, layers: 1, hidden: 16, heads: 2}\ntrain: {epochs: 1}\n"
        "export: [{name: jitter, fault: off}, state_dict]\n"
    )
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 1
    assert "is trained, but not exported; --resume tries again\n" in capsys.readouterr().err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "differs by 0.0002" in result["exports"]["jitter"]["error"]
    assert result["exports"]["state_dict"]["agreement"] == 1.0
    assert nlpkit.load(tmp_path / "run").predict(["money"])


def test_the_gates_process_imports_no_torch_of_its_own() -> None:
    code = "import sys, nlpkit.bundle.gate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
