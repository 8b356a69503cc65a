"""What a config becomes before it is sent."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import ValidationError

import nlpkit
from nlpkit.config.resolve import resolve
from nlpkit.errors import ConfigError, InputError
from nlpkit.plugin.host import Host
from nlpkit_ray import launcher, preflight, submission
from nlpkit_ray.config import RayConfig
from nlpkit_ray.gang import Gang, gang_of
from nlpkit_ray.launcher import RayLauncher
from nlpkit_ray.submission import Submission, inputs_of, user_of
from tests.jobs.runs import nobody

if TYPE_CHECKING:
    from nlpkit.config.schema import Config


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "my_token", "KEY"],
)
def test_a_secret_is_refused_where_everybody_can_read_it(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} here; name it in launch\.secrets"):
        RayConfig(env={name: "x"})


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "KEYBOARD", "MONKEY"])
def test_what_is_no_secret_is_taken(name: str) -> None:
    assert RayConfig(env={name: "x"}).env == {name: "x"}


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "NLPKIT_POOL", "CUDA_VISIBLE_DEVICES"])
def test_what_the_job_is_made_of_is_not_a_jobs_to_set(name: str) -> None:
    with pytest.raises(ValidationError, match="not a job's to set"):
        RayConfig(env={name: "x"})


@pytest.mark.parametrize(
    ("strategy", "gpus", "gang"),
    [
        ({"name": "ddp", "devices": 4}, 1, Gang(least=4, most=4, resource="GPU", each=1)),
        ({"name": "ddp", "devices": 4}, 0.5, Gang(least=4, most=4, resource="GPU", each=0.5)),
        ({"name": "ddp", "devices": 4}, 0, Gang(least=4, most=4, resource="CPU", each=1)),
        ({"name": "ddp", "devices": [2, 4]}, 1, Gang(least=2, most=4, resource="GPU", each=1)),
        ({"name": "ddp", "devices": "all"}, 1, Gang(least=1, most=None, resource="GPU", each=1)),
        ({"name": "single"}, 1, Gang(least=1, most=1, resource="GPU", each=1)),
        ({"name": "data_parallel", "devices": 4}, 1, Gang(least=1, most=1, resource="GPU", each=4)),
    ],
)
def test_a_strategy_says_what_the_pool_is_asked_for(
    strategy: dict[str, Any], gpus: float, gang: Gang
) -> None:
    host = Host.discover()
    tree = {
        "name": "a",
        "data": "sample",
        "model": "transformer",
        "strategy": strategy,
        "launch": {"name": "ray"},
    }
    config = nlpkit.load_config(tree)
    assert gang_of(config, host, RayConfig(gpus_per_worker=gpus)) == gang


def test_all_devices_are_every_worker_that_the_pool_has_room_for() -> None:
    every = Gang(least=1, most=None, resource="GPU", each=2.0)
    assert every.on(7.0) == Gang(least=3, most=3, resource="GPU", each=2.0)


def test_all_devices_of_data_parallel_need_a_number() -> None:
    tree = {
        "name": "a",
        "data": "sample",
        "model": "transformer",
        "strategy": {"name": "data_parallel", "devices": "all"},
    }
    with pytest.raises(ConfigError, match=r"strategy\.devices: .* from one node .*; give a number"):
        gang_of(nlpkit.load_config(tree), Host.discover(), RayConfig())


@pytest.mark.parametrize(
    ("written", "overrides"),
    [
        ("", ["launch.storage=/s", "strategy.devices=2"]),
        ("launch: {storage: /s}", []),
        ("launch: local", ["launch.storage=/s"]),
        ("launch: {name: ray, storage: /t}", ["launch.storage=/s"]),
    ],
)
def test_options_of_launch_need_no_name_where_a_config_is_submitted(
    written: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(RayLauncher, "submit", lambda _, config, host, **how: given.append(config))
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\ndata: sample\nmodel: transformer\n{written}\n")
    nlpkit.submit(nlpkit.load_config(path, overrides), address="http://127.0.0.1:8265")
    (config,) = given
    assert (config.launch.name, config.launch.options) == ("ray", {"storage": "/s"})


def test_a_wrong_option_of_launch_has_its_address(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ndata: sample\nmodel: transformer\nlaunch: {priority: urgent}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:4: launch\.priority: \"urgent\" is not low"):
        nlpkit.submit(nlpkit.load_config(path), address="http://127.0.0.1:8265")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A config whose data is a file here."""
    (tmp_path / "rows.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 40)
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndata: {train: rows.csv}\nmodel: transformer\n")
    return path


def sent(config: Path, storage: str, folder: Path, **options: Any) -> Submission:
    """A submission of which only the package is made."""
    found = nlpkit.load_config(config)
    given: Any = Submission(config=found, host=Host.discover(), connection=None, say=print)  # type: ignore[arg-type]
    folder.mkdir()
    given._place(inputs_of(found), storage, folder)
    return given


def test_an_input_is_known_by_its_content(rows: Path, tmp_path: Path) -> None:
    (first,) = inputs_of(nlpkit.load_config(rows))
    assert (first.key, first.path, first.size) == ("data.train", tmp_path / "rows.csv", 491)
    (tmp_path / "rows.csv").touch()
    assert inputs_of(nlpkit.load_config(rows))[0].sha256 == first.sha256
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("e,x\n")
    assert inputs_of(nlpkit.load_config(rows))[0].sha256 != first.sha256


def test_a_small_input_travels_in_the_package(rows: Path, tmp_path: Path) -> None:
    sent(rows, str(tmp_path / "nowhere"), tmp_path / "package")
    (copy,) = (tmp_path / "package" / "inputs").rglob("*.csv")
    assert copy.read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_splits_of_one_dataset_travel_once_and_are_named(tmp_path: Path) -> None:
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "train.csv").write_text("text,label\na b,x\n")
    path = tmp_path / "mine.yaml"
    data = "{name: huggingface, train: imdb#train, test: imdb#test}"
    path.write_text(f"name: mine\ndata: {data}\nmodel: transformer\n")
    given = sent(path, str(tmp_path / "nowhere"), tmp_path / "package")
    inputs = inputs_of(given.config)
    assert [each.split for each in inputs] == ["#train", "#test"]
    assert len(list((tmp_path / "package" / "inputs").rglob("*.csv"))) == 1
    given._write(tmp_path / "package", "job", RayConfig(), inputs)
    order = json.loads((tmp_path / "package" / submission.ORDER).read_bytes())
    assert order["inputs"] == {
        "data.train": f"{inputs[0].sha256}/imdb#train",
        "data.test": f"{inputs[0].sha256}/imdb#test",
    }


READ = {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"}
UNREAD = (
    ".git/objects/pack/pack-1.pack",
    ".gitattributes",
    "README.md",
    "flax_model.msgpack",
    "onnx/model.onnx",
    "pytorch_model.bin",
    "tf_model.h5",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A config whose model is a clone of the hub's repository."""
    for name in (*READ, *UNREAD):
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 1000)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{name: mine, data: sample, model: {name: bert, pretrained: clone}, tokenizer:"
        " {name: pretrained, pretrained: clone}}\n"
    )
    return path


def test_of_a_cloned_model_travels_what_is_read_of_it(clone: Path, tmp_path: Path) -> None:
    given = sent(clone, str(tmp_path / "nowhere"), tmp_path / "package")
    model, tokenizer = inputs_of(given.config)
    assert (model.size, model.sha256) == (4000, tokenizer.sha256)
    travelled = tmp_path / "package" / "inputs" / model.name
    assert {each.name for each in travelled.rglob("*")} == READ
    for name in UNREAD:
        (tmp_path / "clone" / name).unlink()
    assert inputs_of(given.config)[0].sha256 == model.sha256


def test_of_a_model_that_lends_its_tokenizer_no_weights_travel(clone: Path, tmp_path: Path) -> None:
    text = clone.read_text().replace("pretrained: clone}, tok", "pretrained: an/other}, tok")
    clone.write_text(text)
    (tokenizer,) = inputs_of(nlpkit.load_config(clone))
    assert {each.name for each in tokenizer.files} == READ - {"model.safetensors"}


def test_a_large_model_that_reaches_no_storage_is_not_told_to_become_a_url(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "LIMIT", 100)
    with pytest.raises(InputError, match=r"clone: 0 MB.*set model\.pretrained to an id of the hub"):
        sent(clone, str(tmp_path / "nowhere"), tmp_path / "package")


def test_a_folder_of_rows_travels_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("rows/.git/HEAD", "rows/card/.hidden", "rows/card/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("where is my card")
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, data: {name: folder, train: rows}, model: transformer}\n")
    (rows,) = inputs_of(nlpkit.load_config(path))
    assert [each.name for each in rows.files] == ["a.txt"]


def test_rows_in_memory_travel_as_files_of_what_the_task_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages: list[dict[str, Any]] = []

    def submit(_: RayLauncher, config: Config, host: Host, **how: Any) -> None:
        given = Submission(config=config, host=host, connection=cast("Any", None), say=print)
        folder = tmp_path / f"package-{len(packages)}"
        folder.mkdir()
        inputs = inputs_of(config)
        given._place(inputs, str(tmp_path / "nowhere"), folder)
        given._write(folder, "job", RayConfig(), inputs)
        order = json.loads((folder / submission.ORDER).read_bytes())["inputs"]
        packages.append({key: (folder / "inputs" / place) for key, place in order.items()})

    monkeypatch.setattr(RayLauncher, "submit", submit)
    tree = {"name": "a", "data": {"validation": None}, "model": "transformer"}
    rows = [{"text": f"a {n}", "label": "x" if n % 2 else "y", "id": n} for n in range(4)]
    for _ in range(2):
        nlpkit.submit(tree, {"train": rows, "test": rows[:2]}, address="http://127.0.0.1:8265")
    first, again = packages
    assert first.keys() == {"data.train", "data.test"}
    assert [each.parent.name for each in first.values()] == [
        each.parent.name for each in again.values()
    ]  # known by its content: a job that is resumed finds it
    (line, *others) = map(json.loads, first["data.train"].read_text().splitlines())
    assert line == ["train row 0", {"text": "a 0", "label": "y"}]
    assert len(others) == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([{"text": "a"}], "data: is list; give rows by split"),
        ({"test": []}, "data: train is missing"),
        ({"train": []}, "data: no train rows were given"),
    ],
)
def test_rows_in_memory_that_are_none_are_refused_before_a_cluster_is_asked(
    data: Any, says: str
) -> None:
    tree = {"name": "a", "model": "transformer"}
    with pytest.raises(InputError, match=says):
        nlpkit.submit(tree, data, address="http://127.0.0.1:1")


def test_a_large_input_goes_to_the_storage_once(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submission, "LIMIT", 100)
    (tmp_path / "shared").mkdir()
    for number in range(2):
        sent(rows, str(tmp_path / "shared"), tmp_path / f"package{number}")
        assert not list((tmp_path / f"package{number}").rglob("*.csv"))
    (copy,) = (tmp_path / "shared" / "inputs").rglob("*.csv")
    assert copy.read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert capsys.readouterr().out.count("copies ") == 1


def test_a_large_input_that_reaches_no_storage_is_refused_with_both_remedies(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "LIMIT", 100)
    with pytest.raises(InputError, match=r"rows\.csv: 0 MB.*; mount .* or .*data\.train to a URL"):
        sent(rows, str(tmp_path / "nowhere"), tmp_path / "package")


def test_the_user_is_whom_the_config_the_variable_or_the_login_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NLPKIT_USER", raising=False)
    assert user_of(RayConfig()) == getpass.getuser()
    monkeypatch.setenv("NLPKIT_USER", "ada")
    assert user_of(RayConfig()) == "ada"
    assert user_of(RayConfig(user="grace")) == "grace"


def test_a_uid_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NLPKIT_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    nobody(monkeypatch)
    assert user_of(RayConfig()) == str(os.getuid())
    assert user_of(RayConfig(user="ada")) == "ada"


def test_ray_has_a_home_for_the_while_where_its_user_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody(monkeypatch)
    with launcher._at_home():
        assert Path("~/ray_results").expanduser().parent.is_dir()  # as Ray Train does
    assert "HOME" not in os.environ


def test_a_storage_that_shows_a_password_is_refused(rows: Path) -> None:
    with pytest.raises(nlpkit.ConfigError) as caught:
        nlpkit.load_config(rows, ["launch.name=ray", "launch.storage=s3://me:pw@bucket/x"])
    assert (
        "launch.storage: the URL shows a password or a token before its @; set credentials where"
        in str(caught.value)
    )


def test_variables_that_a_config_takes_secrets_from_are_looked_for_on_the_nodes(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def preflight(connection: Any, *, options: RayConfig, **given: Any) -> Any:
        asked.extend(options.secrets)
        raise InputError("asked")

    monkeypatch.setattr(submission, "preflight", preflight)
    overrides = ["launch={name: ray, storage: /mnt/x, secrets: [HF_TOKEN]}"]
    overrides += ["checkpoint.backup={env: NOT_SET_HERE}"]
    config = nlpkit.load_config(rows, overrides)
    given: Any = {"connection": None, "host": Host.discover(), "say": print}
    with pytest.raises(InputError, match="asked"):
        Submission(config=config, **given).send()
    assert asked == ["HF_TOKEN", "NOT_SET_HERE"]
    config = nlpkit.load_config(rows, [*overrides[1:], "launch={name: ray, storage: s3://b?t=1}"])
    with pytest.raises(ConfigError, match=r"launch.storage: the URL shows a secret; set cred"):
        Submission(config=config, **given).send()


def test_the_cluster_resolves_a_config_to_what_it_was_checked_as(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    model = tmp_path / "tiny"
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 64}
    tiny = transformers.BertConfig(hidden_size=4, intermediate_size=4, vocab_size=9, **sizes)
    transformers.BertModel(tiny).save_pretrained(model)
    (model / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\n")
    overrides = [
        "launch={name: ray, storage: /mnt/x}",
        f"model={{name: bert, pretrained: {model}}}",
    ]
    loaded, host = nlpkit.load_config(rows, overrides), Host.discover()
    there: list[Config] = []

    def submit(*, runtime_env: dict[str, Any], **given: Any) -> None:
        written = nlpkit.load_config(Path(runtime_env["working_dir"], "config.yaml"))
        there.append(resolve(written, host))

    report = preflight.Report(problems=[], notes=[], ship=[], seconds=0)
    monkeypatch.setattr(submission, "preflight", lambda *_, **__: report)
    connection: Any = SimpleNamespace(submit=submit)
    Submission(config=loaded, host=host, connection=connection, say=print).send()
    assert there == [resolve(loaded, host)]
    assert there[0].tokenizer.max_length == 64


def test_urls_that_hold_a_secret_are_in_no_command_of_a_job(rows: Path) -> None:
    overrides = ["data.train={env: ROWS}", "data.test=https://h/x.csv?sig=1"]
    config = nlpkit.load_config(rows, [*overrides, "data.validation=https://h/y.csv"])
    assert submission.remote_locations(config) == ["https://h/y.csv"]
    assert inputs_of(config) == []
