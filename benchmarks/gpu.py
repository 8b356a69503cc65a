"""Speed on a GPU, beside transformers' Trainer (`make bench-gpu`).

Writes the section "On a GPU" of docs/benchmarks.md. Needs no network: models have random weights,
texts are random words. `python -m benchmarks.gpu --device cpu --steps 3` tries all of it on a CPU,
in miniature, and writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Trainer takes every GPU that it sees, and this is about one. Before torch is imported.
_SEEN = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
os.environ["CUDA_VISIBLE_DEVICES"] = _SEEN.split(",")[0]

import torch  # noqa: E402
import transformers  # noqa: E402

import nlpkit  # noqa: E402
from benchmarks.bench_clock import now  # noqa: E402
from benchmarks.page import put, table  # noqa: E402

CLOCK = Path(__file__).with_name("bench_clock.py")
LABELS, VOCABULARY = 10, 30522
SIZES: dict[str, dict[str, Any]] = {
    "BERT-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "MiniLM-L6": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRAINERS = ("nlpkit", "transformers")
TEXT = """
Measured by `make bench-gpu` on one {device} with {versions}.

Training steps of {samples} samples with {tokens} tokens each, so that nothing is padding; forward,
backward, clipping and fused AdamW, with a loader of 2 workers. Models have random weights and
transformers' own encoder with SDPA attention in both trainers. Of a run's {steps} optimizer steps
the first {warmup} do not count; the median of {repeats} runs, which alternate. No TF32 in fp32.

"share" is model FLOPs per second ÷ what a multiplication of two {matrix} × {matrix} matrices
reaches here in the same precision, in TFLOP/s {peaks}. Model FLOPs are 6·N a token, N the
parameters of the encoder without its embeddings, and 12·layers·hidden·tokens a token for attention.

{table}
"""


@dataclass(frozen=True)
class Case:
    """What one line of the table is about."""

    model: str
    precision: str
    folder: Path
    rows: Path
    options: argparse.Namespace

    @property
    def config(self) -> transformers.BertConfig:
        """The sizes of the model."""
        hidden = SIZES[self.model]["hidden_size"]
        return transformers.BertConfig(
            vocab_size=VOCABULARY,
            intermediate_size=4 * hidden,
            num_labels=LABELS,
            **SIZES[self.model],
        )

    @property
    def flops(self) -> float:
        """Model FLOPs of one optimizer step."""
        config, tokens = self.config, self.options.tokens
        with torch.device("meta"):
            encoder = transformers.BertModel(config, add_pooling_layer=False).encoder
        parameters = sum(p.numel() for p in encoder.parameters())
        attention = 12 * config.num_hidden_layers * config.hidden_size * tokens
        return float(self.options.samples * tokens * (6 * parameters + attention))


def main() -> None:
    """Measures everything, prints the section, and writes it where it is about a GPU."""
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device found; --device cpu --steps 3 only tries the code")
    deadline = time.monotonic() + 60 * options.minutes
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    peaks = {name: attempt(lambda name=name: matmul(options, name)) for name in options.precisions}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NLPKIT_CACHE"] = f"{folder}/cache"
        rows = write_rows(Path(folder) / "train.jsonl", options)
        for model in options.models:
            for precision in options.precisions:
                case = Case(model, precision, Path(folder) / model, rows, options)
                late = time.monotonic() > deadline
                found = {name: ["out of time"] for name in TRAINERS} if late else measure(case)
                lines += [line(case, name, found[name], peaks[precision]) for name in TRAINERS]
                text = section(options, peaks, lines)
                if options.device == "cuda":  # at once: who is in a hurry may stop here
                    put("On a GPU", text)
    print(text)


def arguments() -> argparse.Namespace:
    """What was asked for; on a CPU everything is small."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each trainer")
    parser.add_argument("--samples", type=int, help="in a step: 64, or 2 on a CPU")
    parser.add_argument("--tokens", type=int, help="of a sample: 128, or 16 on a CPU")
    parser.add_argument("--models", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=tuple(DTYPES), default=tuple(DTYPES))
    parser.add_argument("--minutes", type=float, default=20, help="nothing is begun after these")
    options = parser.parse_args()
    small = options.device == "cpu"
    options.samples = options.samples or (2 if small else 64)
    options.tokens = options.tokens or (16 if small else 128)
    if options.steps < 2 or options.repeats < 1:
        parser.error("--steps 2 and --repeats 1 at least: the first step does not count")
    options.warmup = max(1, min(10, options.steps // 3))
    return options


def measure(case: Case) -> dict[str, list[Any]]:
    """Runs both trainers in turn; by trainer (seconds, GiB) of each run, or what went wrong."""
    if not case.folder.exists():
        transformers.BertModel(case.config, add_pooling_layer=False).save_pretrained(case.folder)
    runs: dict[str, Callable[[Case], float]] = {"nlpkit": nlpkit_run, "transformers": peer_run}
    found: dict[str, list[Any]] = {name: [] for name in TRAINERS}
    for repeat in range(case.options.repeats):
        for name in TRAINERS[:: -1 if repeat % 2 else 1]:
            if found[name] and isinstance(found[name][-1], str):
                continue
            print(f"{case.model} {case.precision} {name} {repeat + 1}", file=sys.stderr, flush=True)
            found[name].append(attempt(lambda name=name: weighed(case, runs[name])))
    return found


def weighed(case: Case, run: Callable[[Case], float]) -> tuple[float, float]:
    """Seconds that the counted steps took, and the GPU memory at its peak in GiB."""
    gc.collect()
    if case.options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = run(case)
    peak = torch.cuda.max_memory_allocated() if case.options.device == "cuda" else 0
    return seconds, peak / 2**30


def attempt(run: Callable[[], Any]) -> Any:
    """What `run` gives, or why it does not: one thing that fails must not cost the others."""
    try:
        return run()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        reason = (str(error).splitlines() or [""])[0]
        return f"{type(error).__name__}: {reason[:100]}"


def nlpkit_run(case: Case) -> float:
    """`nlpkit.train` as users call it, with an observer that looks at the clock."""
    options, out = case.options, case.folder.with_name("run")
    shutil.rmtree(out, ignore_errors=True)
    nlpkit.train(
        {
            "name": "speed",
            "plugins": [str(CLOCK)],
            "device": options.device,
            "precision": case.precision,
            "data": {"train": str(case.rows), "validation": None},
            "task": "sequence",
            "tokenizer": {"name": "wordpiece", "max_length": options.tokens},
            "model": {"name": "bert", "pretrained": str(case.folder)},
            "train": {
                "epochs": 1,
                "max_steps": options.steps,
                "batch_size": options.samples,
                "learning_rate": 5e-5,
            },
            "loader": {"workers": 2},
            "observers": [{"name": "clock", "warmup": options.warmup}],
        },
        out=out,
    )
    seconds = float(json.loads((out / "clock.json").read_text())["seconds"])
    if padding := json.loads((out / "result.json").read_text())["padding_share"]:
        raise RuntimeError(f"{padding:.1%} of what nlpkit was given is padding")
    shutil.rmtree(out)
    return seconds


class ClockCallback(transformers.TrainerCallback):
    """Looks at the clock as the observer does."""

    def __init__(self, warmup: int, last: int) -> None:
        self.warmup, self.last, self.seconds = warmup, last, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """After each optimizer step."""
        if state.global_step == self.warmup:
            self.started = now()
        if state.global_step == self.last:
            self.seconds = now() - self.started


def peer_run(case: Case) -> float:
    """`transformers.Trainer` with the same shapes; everything else as by default."""
    options = case.options
    torch.manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (options.samples * options.steps, options.tokens))
    ones, labels = torch.ones(options.tokens, dtype=torch.int64), ids[:, 0] % LABELS
    data = [
        {"input_ids": row, "attention_mask": ones, "labels": label}
        for row, label in zip(ids, labels, strict=True)
    ]
    clock = ClockCallback(options.warmup, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=transformers.BertForSequenceClassification(case.config),
            args=transformers.TrainingArguments(
                output_dir=folder,
                use_cpu=options.device == "cpu",
                max_steps=options.steps,
                per_device_train_batch_size=options.samples,
                learning_rate=5e-5,
                dataloader_num_workers=2,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                **{name: True for name in ("bf16", "fp16") if name == case.precision},
            ),
            train_dataset=data,
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return clock.seconds


def matmul(options: argparse.Namespace, precision: str) -> float:
    """TFLOP/s of a large matrix multiplication, the median of 10."""
    size = matrix(options)
    left, right = (torch.randn(size, size, device=options.device) for _ in range(2))
    left, right = left.to(DTYPES[precision]), right.to(DTYPES[precision])
    seconds = []
    for _ in range(13):
        started = now()
        torch.mm(left, right)
        seconds.append(now() - started)
    return 2 * size**3 / statistics.median(seconds[3:]) / 1e12


def matrix(options: argparse.Namespace) -> int:
    """The side of the matrices."""
    return 8192 if options.device == "cuda" else 512


def write_rows(path: Path, options: argparse.Namespace) -> Path:
    """Random words, always more than fit, so that each sample has as many tokens as the others."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnop", k=5)) for _ in range(500)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(options.samples * options.steps):
            text = " ".join(generator.choices(words, k=options.tokens + 2))
            file.write(json.dumps({"text": text, "label": f"label {number % LABELS}"}) + "\n")
    return path


def line(case: Case, trainer: str, runs: list[Any], peak: Any) -> list[str]:
    """A line of the table: the medians, or why there are none."""
    head = [case.model, case.precision, trainer]
    failed = next((run for run in runs if isinstance(run, str)), None)
    if failed:
        return [*head, f"not run: {failed}", "", "", ""]
    steps = case.options.steps - case.options.warmup
    per_second = steps / statistics.median(seconds for seconds, _ in runs)
    samples = per_second * case.options.samples
    share = "" if isinstance(peak, str) else f"{per_second * case.flops / (peak * 1e12):.1%}"
    memory = max(gib for _, gib in runs)
    tokens = samples * case.options.tokens
    return [*head, f"{samples:,.0f}", f"{tokens:,.0f}", share, f"{memory:.1f}"]


def section(options: argparse.Namespace, peaks: dict[str, Any], lines: list[list[str]]) -> str:
    """The section of the page."""
    cuda = options.device == "cuda"
    shown = ", ".join(
        f"{name} {'not run' if isinstance(peak, str) else f'{peak:.3g}'}"
        for name, peak in peaks.items()
    )
    titles = ["model", "precision", "trainer", "samples/s", "tokens/s", "share", "peak GiB"]
    return TEXT.format(
        device=torch.cuda.get_device_name() if cuda else "CPU",
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}",
        samples=options.samples,
        tokens=options.tokens,
        warmup=options.warmup,
        steps=options.steps,
        repeats=options.repeats,
        matrix=matrix(options),
        peaks=shown,
        table=table(titles, lines),
    )


if __name__ == "__main__":
    main()
