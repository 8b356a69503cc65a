"""Guide, reference of keys and pages of tasks: all that there is is in them, and examples run."""

from __future__ import annotations

import inspect
import re
import shlex
from typing import Any

import click
import pytest

import nlpkit
from nlpkit.cli.main import CommandGroup, main
from nlpkit.config import strict_yaml
from nlpkit.config.jsonschema import config_schema
from nlpkit.config.load import load_config
from nlpkit.config.resolve import KINDS
from nlpkit.plugin.host import Host, load
from nlpkit.run.train import Run
from tests.docs.pages import (
    GUIDE,
    KEYS,
    PAGES,
    REPOSITORY,
    TASKS,
    blocks,
    commands,
    parsed,
    prose,
    section,
    table,
)

TEXT = GUIDE.read_text("utf-8")
HOST = Host.discover()
GROUP = CommandGroup(HOST)
COMMANDS = GROUP.list_commands(click.Context(GROUP))
SCHEMA = config_schema(HOST)
ROWS = {
    (line.heading, line.cells[0]): line.cells[1] for page in (GUIDE, KEYS) for line in table(page)
}
ROWS |= {
    (f"task `{page.stem}`", line.cells[0]): line.cells[1] for page in TASKS for line in table(page)
}
NOT_VALUES = {
    "data.name": "files",
    "tokenizer": "by the model",
    "tokenizer.name": "by the model",
    "tokenizer.pretrained": "the model's",
    **dict.fromkeys(("train", "eval", "loader", "checkpoint"), "{}"),
}
"""Defaults that the schema cannot say."""


def shown(value: Any) -> str:
    """A default as the guide writes it."""
    if isinstance(value, dict):
        return str(value["name"]) if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def default(key: str, schema: dict[str, Any]) -> str:
    if key in NOT_VALUES:
        return NOT_VALUES[key]
    return shown(schema["default"]) if "default" in schema else "required"


def frame_keys() -> dict[str, str]:
    """The keys that the core reads, dotted, with their defaults."""
    keys = {key: default(key, field) for key, field in SCHEMA["properties"].items()}
    for key, field in SCHEMA["properties"].items():
        if "$ref" in field:
            inner = SCHEMA["$defs"][field["$ref"].rpartition("/")[2]]["properties"]
            keys |= {f"{key}.{name}": default(f"{key}.{name}", inner[name]) for name in inner}
    for key in ("data", "tokenizer"):
        alternatives = SCHEMA["properties"][key]["oneOf"]
        mappings = [each["properties"] for each in alternatives if "properties" in each]
        inner = {name: mappings[0][name] for name in set.intersection(*map(set, mappings))}
        keys |= {f"{key}.{name}": default(f"{key}.{name}", inner[name]) for name in inner}
    return keys


def component_keys() -> list[tuple[str, str, str, str]]:
    """Kind, name, dotted key and default of every option of every component of a config."""
    keys = []
    for key, kind in KINDS.items():
        for entry in HOST.entries(kind):
            if entry.record.config:
                properties = load(entry.record, entry.record.config).model_json_schema()
                for option, schema in properties["properties"].items():
                    dotted = f"{key}.{option}"
                    keys.append((kind, entry.record.name, dotted, default(dotted, schema)))
    return keys


@pytest.mark.parametrize(("key", "value"), sorted(frame_keys().items(), key=str))
def test_every_key_of_the_frame_is_explained_with_its_default(key, value):
    assert value in [cell for (_, name), cell in ROWS.items() if name == key]


@pytest.mark.parametrize(("kind", "name", "key", "value"), sorted(component_keys(), key=str))
def test_every_option_of_a_component_is_explained_under_its_heading(kind, name, key, value):
    found = {
        cell
        for (heading, option), cell in ROWS.items()
        if option == key and heading.lower().startswith(kind) and f"`{name}`" in heading
    }
    assert found == {value}


def test_no_key_is_explained_that_does_not_exist():
    known = {*frame_keys(), *(key for _, _, key, _ in component_keys())}
    known |= {f"{section}.name" for section in KINDS}
    sections = "|".join(SCHEMA["properties"])
    named = {key for _, key in ROWS if re.fullmatch(rf"({sections})(\.\w+)?", key)}
    assert named - known == set()


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_component_is_mentioned(kind):
    text = "".join(page.read_text("utf-8") for page in (KEYS, *TASKS))
    assert [e.record.name for e in HOST.entries(kind) if f"`{e.record.name}`" not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_its_section(name):
    text = section(GUIDE, f"`nlpkit {name}`")
    command = GROUP.get_command(click.Context(GROUP), name)
    assert command is not None
    context = click.Context(command, info_name=name)
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            assert parameter.make_metavar(context).strip("[]") in text
        elif "--help" not in parameter.opts:
            assert all(f"`{option}`" in text for option in parameter.opts), parameter.opts


def test_every_environment_variable_of_the_code_is_explained():
    sources = [
        path for part in ("nlpkit", "plugins", "jobs") for path in (REPOSITORY / part).rglob("*.py")
    ]
    named = {name for path in sources for name in re.findall(r"\bNLPKIT_[A-Z_]+", path.read_text())}
    assert named == {key for _, key in ROWS if key.startswith("NLPKIT_")}


def test_every_error_is_explained():
    known = {name for name in nlpkit.__all__ if name.endswith("Error")} - {"NlpkitError"}
    assert known == {key for _, key in ROWS if key.endswith("Error")}


def test_every_public_name_is_in_the_guide_or_in_the_plugin_authors_guide():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [name for name in nlpkit.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_every_function_and_what_a_run_has_is_in_the_guide():
    functions = [name for name in nlpkit.__all__ if inspect.isfunction(getattr(nlpkit, name))]
    assert [
        name for name in functions if name != "hookimpl" and f"nlpkit.{name}(" not in TEXT
    ] == []
    properties = [name for name, value in vars(Run).items() if isinstance(value, property)]
    assert [name for name in ("path", *properties) if f"run.{name}" not in TEXT] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_can_be_parsed(page):
    lines = [line for block in blocks(page, "sh") for line in commands(block.text)]
    inline = re.findall(r"`(nlpkit [^`]+)`", re.sub(r"\n +", " ", prose(page)))
    for line in [*lines, *(part for text in inline for part in commands(text))]:
        if not re.search(r"nlpkit --|COMMAND|nlpkit best", line):
            name, *arguments = shlex.split(line)[1:]
            assert name in COMMANDS
            if arguments:
                parsed([name, *arguments])


@pytest.mark.parametrize(
    "block",
    [block for page in (GUIDE, KEYS, *TASKS) for block in blocks(page, "yaml")],
    ids=lambda block: block.text.split("\n")[0],
)
def test_every_config_loads(block):
    written = strict_yaml.read(block.text).value
    assert load_config({"name": "x", "model": "transformer", **written})


def test_the_commands_of_prediction_run(in_guide, capsys, monkeypatch):
    block = next(block.text for block in blocks(GUIDE, "sh") if "--input" in block.text)
    with (in_guide / "new.csv").open(encoding="utf-8") as texts:
        monkeypatch.setattr("sys.stdin", texts)
        for line in commands(block):
            assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert len((in_guide / "labels.jsonl").read_text("utf-8").splitlines()) == 3


def test_its_python_runs(in_guide, capsys):
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(GUIDE, "python")):
        exec(compile(block.text, f"{GUIDE}: block {number}", "exec"), names)
    assert names["problems"] == []
    assert names["run"].metrics.keys() == {"validation", "test"}
    assert inspect.getmodule(type(names["prediction"])).__name__ == "nlpkit.contracts"
    assert "track" in capsys.readouterr().out


def test_everything_in_a_run_folder_is_explained(in_guide):
    run = Run(in_guide / "runs" / "intents")
    text = section(GUIDE, "The run folder")
    for path in run.path.rglob("*"):
        assert re.sub(r"step-\d+", "step-00000314", path.name) in text, path
    for key, value in run.result.items():
        assert f"`{key}`" in text
        for inner in value if key in ("data", "observers") else ():
            assert inner in text or inner == "progress"


def test_the_shares_of_baseline_and_demo_are_measured():
    import csv
    from importlib.resources import files

    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    splits = {}
    for split in ("train", "test"):
        path = files("nlpkit_data") / "sample" / f"{split}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            splits[split] = list(csv.DictReader(file))
    texts = {split: [row["text"] for row in rows] for split, rows in splits.items()}
    labels = {split: [row["label"] for row in rows] for split, rows in splits.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=2000)
    model.fit(vectorizer.fit_transform(texts["train"]), labels["train"])
    share = model.score(vectorizer.transform(texts["test"]), labels["test"])
    assert f"TF-IDF gets {share:.3f}" in " ".join(TEXT.split())
    assert f"{len(texts['train']):,} customer-service requests" in " ".join(TEXT.split())
    assert f"{len(texts['test'])} held out" in " ".join(TEXT.split())
