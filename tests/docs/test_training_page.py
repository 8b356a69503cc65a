"""The section on training is what its runs say, whatever there is of them so far."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training import LONG, accuracy_jobs, parsed, run_all, speed_jobs
from benchmarks.training_case import BATCH, Case, Typical
from benchmarks.training_page import section


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    for turn, ours in enumerate((20, 30, 90)):
        write(folder, f"speed-banking77-nlpkit-fp32-{turn}", samples_per_second=ours)
        write(folder, f"speed-banking77-nlpkit-bf16-{turn}", samples_per_second=ours / 4)
        write(folder, f"speed-banking77-trainer-fp32-{turn}", samples_per_second=10)
        write(folder, f"speed-banking77-trainer-bf16-{turn}", samples_per_second=40)
        write(folder, f"speed-banking77-trainer-best-fp32-{turn}", samples_per_second=12)
        write(folder, f"speed-banking77-trainer-best-bf16-{turn}", samples_per_second=15)
    write(folder, "accuracy-banking77-nlpkit-fp32", accuracy=0.9314, epochs=3, padding=0.031)
    write(folder, "accuracy-banking77-trainer-best-fp32", accuracy=0.9, epochs=3, threads=1)
    return folder


def write(folder: Path, name: str, **found: Any) -> None:
    kind, data, *rest = name.split("-")
    if kind == "long":
        trainer, precision, data = "nlpkit", "fp32", "imdb5k"
    else:
        rest = rest if kind == "accuracy" else rest[:-1]
        trainer, precision = "-".join(rest[:-1]), rest[-1]
    run = {
        **{"trainer": trainer, "precision": precision, "data": data, "epochs": None, "skipped": 5},
        **{"peak_mb": 1500.4, "padding": 0.047, "auto": "fp32", "threads": 2, "python": "3.11.7"},
        **{"processor": "some CPU, no bf16", "torch": "2.13.0", "transformers": "5.23.0"},
        **{"lightning": "2.6.6", "samples_per_second": 1.0},
    }
    (folder / f"{name}.json").write_text(json.dumps(run | found))


def lines(text: str) -> list[list[str]]:
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_a_line_has_medians_and_the_ratios_of_each_round(work, tmp_path):
    text = section(work, draw=tmp_path / "plot.svg")
    found = lines(text)
    assert ["nlpkit", "fp32", "30.0", "20.0 – 90.0", "3.00", "1,500", "3.1%", "0.931"] in found
    defaults = ["10.0", "10.0 – 10.0", "1.00", "1,500", "4.7%", ""]
    assert ["Trainer, defaults", "fp32", *defaults] in found
    assert "`precision: auto` takes fp32 here" in text
    assert "Python 3.11.7, 2 threads of one CPU (some CPU, no bf16)" in text  # of what was timed


def test_the_defaults_are_fp32_and_the_best_is_the_faster_precision(work, tmp_path):
    text = section(work, draw=tmp_path / "plot.svg")
    ratios = next(line for line in lines(text) if line[0] == "banking77")
    assert ratios == ["banking77", "3.00 (2.00 – 9.00)", "2.00 (1.33 – 6.00)", "", "", ""]
    assert "On banking77 bf16 is 0.25 times as fast as fp32 with nlpkit." in text
    assert "On banking77 bf16 is 1.25 times as fast as fp32 with Trainer, best options." in text


def test_long_texts_have_a_table_once_they_were_measured(work, tmp_path):
    assert "Long texts" not in section(work, draw=tmp_path / "plot.svg")
    names = (*(f"long-{name}" for name in LONG), "accuracy-imdb5k-nlpkit-fp32")
    for hundredth, name in enumerate(names):
        found = {"accuracy": 0.8 + hundredth / 100, "samples_per_second": 9.0, "epochs": 1}
        write(work, name, **found)
    text = section(work, draw=tmp_path / "plot.svg")
    assert lines(text[text.index("### Long texts") :])[2:] == [
        ["truncate", "128", "0.800", "9.0"],
        ["truncate", "256", "0.820", "9.0"],
        ["window", "256", "0.810", "9.0"],
    ]
    assert "1 epoch; fp32" in text


def test_the_plot_names_every_trainer_and_is_the_same_each_time(work, tmp_path):
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for path in (first, second):
        section(work, draw=path)
    assert first.read_bytes() == second.read_bytes()
    assert "<!-- Trainer, best options -->" in first.read_text("utf-8")


def test_what_has_been_measured_is_not_measured_again(tmp_path, monkeypatch):
    options = parsed(["--work", str(tmp_path), "--only", "speed"])
    first, *others = jobs = list(speed_jobs(options))
    assert len({job.name for job in jobs}) == len(jobs) == 3 * 2 * 6 * 2
    for job in others:
        write(tmp_path, job.name)
    monkeypatch.setattr(sys, "executable", "false")
    assert run_all(options) == [first.name]
    write(tmp_path, first.name)
    assert run_all(options) == []


def test_rounds_take_turns_and_go_both_ways():
    options = parsed(["--rounds", "2", "--precisions", "fp32"])
    names = [job.name for job in speed_jobs(options) if "banking77" in job.name]
    first, second = names[:6], names[6:]
    assert [name[:-1] for name in first] == [name[:-1] for name in second[::-1]]
    assert {name[-1] for name in first} == {"0"}


@pytest.mark.parametrize(("cpu", "steps"), [("with bf16", "60"), ("no bf16", "12")])
def test_emulated_bf16_is_tried_for_fewer_steps(cpu, steps, monkeypatch):
    monkeypatch.setattr("benchmarks.training.processor", lambda: f"some CPU, {cpu}")
    jobs = {job.name: job.arguments for job in speed_jobs(parsed(["--rounds", "1"]))}
    found = [jobs[f"speed-banking77-nlpkit-{precision}-0"] for precision in ("fp32", "bf16")]
    assert [each[each.index("--steps") + 1] for each in found] == ["60", steps]


def test_whole_trainings_are_those_of_all_that_train_alike():
    names = [job.name for job in accuracy_jobs()]
    assert {"accuracy-imdb5k-trainer-best-fp32", "long-window-256"} <= set(names)
    assert not [name for name in names if "naive" in name or "bare" in name]


class ByLength:
    """The longest first, and a batch that is not full at the end."""

    lengths = tuple(range(20 * BATCH + 7, 0, -1))

    def __iter__(self):
        return iter(range(len(self.lengths)))


def test_the_steps_that_count_are_as_long_as_the_epochs():
    case = Case("banking77", "fp32", steps=9, skipped=2, epochs=1, seed=1)
    order = list(Typical(ByLength(), case))
    assert sorted(order) == list(ByLength())
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    sizes = [len(batch) * max(ByLength.lengths[index] for index in batch) for batch in batches]
    counted = sizes[case.skipped : case.steps]
    mean = sum(counted) / len(counted)
    assert mean == pytest.approx(sum(sizes) / len(sizes), rel=0.01)
    assert sizes[0] != max(sizes)
