"""Law 10: no secret is said or stored: of URLs, of options, of what was typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from pydantic import TypeAdapter, ValidationError

import nlpkit
from nlpkit.cli.main import main
from nlpkit.data.prepare import held_out
from nlpkit.plugin.host import Host
from nlpkit.secrets import has_password, hidden, shown
from tests.training.test_trainer import LAST_WORDS, ROWS, config

STOPPER = """
import os, signal
import nlpkit
from nlpkit.contracts import Observer

class Options(nlpkit.ComponentConfig):
    token: nlpkit.Secret
    at: int = 0

class Stopper(Observer):
    def __init__(self, options, terminal):
        self.token, self.at = options.token.reveal(), options.at

    def run_started(self, event):
        raise ValueError(f"no channel for {self.token}")

    def step_ended(self, event):
        if event.step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="stopper", target="stopper:Stopper", config="stopper:Options")
"""
PASSWORD, SIGNATURE, LATER, TOKEN = "hunter/2@hunter", "5ca1ab1e", "decafbad", "t0pseCret"
SECRETS = (PASSWORD, "hunter", SIGNATURE, LATER, TOKEN)


class Vault(LocalFileSystem):
    """A folder behind URLs with a password and a signed query."""

    protocol = "vault"
    root = Path()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        place = str(path).removeprefix("vault://").rpartition("@")[2].partition("?")[0]
        return place if place.startswith("/") else str(cls.root / place)


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config, whose rows and backup are in the vault."""
    fsspec.register_implementation("vault", Vault, clobber=True)
    Vault.root = tmp_path / "there"
    Vault.root.mkdir()
    bad = {"text": "a text without a label"}
    for name, rows in {"train": [*ROWS, bad], "validation": ROWS[:9], "test": LAST_WORDS}.items():
        (Vault.root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "stopper.py").write_text(STOPPER)
    monkeypatch.chdir(tmp_path)
    signed(monkeypatch, SIGNATURE)
    monkeypatch.setenv("BACKUP_URL", f"vault://me:{PASSWORD}@backup?token={TOKEN}")
    monkeypatch.setenv("BOARD_TOKEN", TOKEN)
    return tmp_path


def signed(monkeypatch: pytest.MonkeyPatch, signature: str, name: str = "ROWS_URL") -> None:
    monkeypatch.setenv(name, f"vault://me:{PASSWORD}@train.jsonl?{query(signature)}")


def query(signature: str = SIGNATURE) -> str:
    return f"X-Amz-Signature={signature}&f=.jsonl"


def settings(signature: str = SIGNATURE, **more: Any) -> dict[str, Any]:
    return config(
        plugins=["./stopper.py"],
        device="cpu",
        data={
            "train": {"env": "ROWS_URL"},
            "validation": f"vault://validation.jsonl?{query(signature)}",
            "on_bad_rows": "quarantine",
        },
        checkpoint={"every": 3, "backup": {"env": "BACKUP_URL"}},
        observers=["progress", "tensorboard", stopper(0)],
        **more,
    )


def stopper(at: int) -> dict[str, Any]:
    return {"name": "stopper", "token": {"env": "BOARD_TOKEN"}, "at": at}


def errors(config: Any) -> list[nlpkit.Problem]:
    return [each for each in nlpkit.check(config) if each.severity == "error"]


def leaks(folder: Path) -> list[str]:
    """The files of a folder that hold a secret."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in SECRETS)
    ]


def test_no_secret_of_a_run_is_said_or_stored_and_it_goes_on_under_other_ones(
    vault: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = vault / "run"
    with pytest.raises(nlpkit.Interrupted):
        nlpkit.train({**settings(), "observers": [stopper(5)]}, out=run)
    assert (vault / "there" / "backup" / "run" / "step-00000003").is_dir()
    signed(monkeypatch, LATER, "OTHER_URL")
    later = settings(LATER)
    nlpkit.train(
        {**later, "data": {**later["data"], "train": {"env": "OTHER_URL"}}}, out=run, resume=True
    )
    url = f"vault://me:{PASSWORD}@test.jsonl?{query()}"
    assert main(["evaluate", str(run), url]) == 0
    assert main(["predict", str(run), "--input", url, "--output", "out.jsonl"]) == 0
    assert main(["evaluate", str(run), url.replace("test", "none")]) == 2
    assert main(["export", str(run), "state_dict"]) == 2
    monkeypatch.setenv("NLPKIT_RUNS", str(vault))
    assert main(["runs"]) == 0
    written = capfd.readouterr()
    said = written.out + written.err
    assert "resumes after step" in said
    assert "{env: OTHER_URL}" in written.out
    assert "vault://me:…@none.jsonl?…: there is no such file" in said
    assert "cannot be read: vault://validation.jsonl?…: its query is not stored with a run" in said
    assert "{env: OTHER_URL}:61" in (run / "rejected.jsonl").read_text()
    assert '"train": "{env: OTHER_URL}"' in (run / "environment.json").read_text()
    assert [secret for secret in SECRETS if secret in said] == []
    assert leaks(vault) == []
    stored = nlpkit.load_config(run / "config.yaml")
    assert stored.checkpoint.backup == nlpkit.Secret(env="BACKUP_URL")
    assert stored.data.validation == "vault://validation.jsonl?…"
    monkeypatch.setenv("MENDED_URL", f"vault://validation.jsonl?{query()}")
    text = (run / "config.yaml").read_text()
    text = text.replace('"vault://validation.jsonl?…"', "{env: MENDED_URL}")
    (run / "config.yaml").write_text(text)
    mended = nlpkit.load_config(run / "config.yaml")
    host = Host.discover()
    host.bring(mended.plugins, run)
    assert len(held_out(mended, host)) == 9


CLEAR = (
    "the URL shows a password or a token before its @; put the whole of it into an environment "
    "variable, and write "
)


def test_a_password_in_a_config_is_refused_with_its_line_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nmodel: transformer\ndata:\n  train: https://me:hunter2@host/train.csv\n"
        "observers: [{name: board, url: 'https://hunter2@board'}]\n"
    )
    long = f"checkpoint.backup=s3://{'K' * 20}:{'S' * 40}@bucket"
    for command in ("check", "train"):
        assert main([command, str(path), long]) == 2
        said = capsys.readouterr().err
        assert f"{path}:4: data.train: {CLEAR}{{env: NAME}} here" in said
        assert f"{path}:5: observers[0].url: {CLEAR}" in said
        assert f"override checkpoint.backup=s3://{'K' * 20}:…@bucket: checkpoint.backup: " in said
        assert "hunter2" not in said
        assert "SSS" not in said


def test_a_secret_that_is_written_in_clear_is_refused_and_not_shown(vault: Path) -> None:
    clear = [f"observers=[{{name: stopper, token: {TOKEN}}}]"]
    (problem,) = errors(nlpkit.load_config(settings(), clear))
    assert str(problem) == (
        "override observers=…: observers[0].token: is a secret, which no config holds; put the "
        "whole of it into an environment variable, and write {env: NAME} here"
    )


def test_a_variable_that_is_not_set_is_named_by_check_and_before_training(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in {
        "ROWS_URL": "data.train",
        "BACKUP_URL": "checkpoint.backup",
        "BOARD_TOKEN": "observers[2].token",
    }.items():
        with monkeypatch.context() as without:
            without.delenv(name)
            expected = f"{key}: the environment variable {name} is not set; {{env: {name}}} takes"
            assert expected in " ".join(map(str, nlpkit.check(settings())))
            with pytest.raises(nlpkit.ConfigError) as caught:
                nlpkit.train(settings(), out=vault / "run")
            assert expected in str(caught.value)
            assert not (vault / "run").exists()


def test_a_run_elsewhere_may_have_variables_that_are_not_set_here(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROWS_URL")
    problems = nlpkit.check({**settings(), "launch": "ray"})
    assert [str(each) for each in problems if each.severity == "error"] == []
    said = [f"{each.key}: {each.message}" for each in problems]
    assert any(each.startswith("data: no row is looked at: the environment") for each in said)


def test_what_would_need_a_query_later_is_refused_before_training(vault: Path) -> None:
    clear = {"every": 3, "backup": "vault://backup?token=abcd"}
    for changes, expected in (
        ({"checkpoint": clear}, "checkpoint.backup: the URL shows a secret; put the whole of it"),
        ({"export": ["state_dict"]}, "data.validation: its query is not stored with the run, and"),
    ):
        (problem,) = errors({**settings(), **changes})
        assert str(problem).startswith(expected)
        with pytest.raises(nlpkit.ConfigError, match=expected[:20]):
            nlpkit.train({**settings(), **changes}, out=vault / "run")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://AKIA5:4/cd+ef@bucket/x", "s3://AKIA5:…@bucket/x"),
        ("gs://key:12/cd@bucket/x", "gs://key:…@bucket/x"),
        ("ftp://me:pass@word@host/x y", "ftp://me:…@host/x y"),
        ("redis://:pw@host", "redis://:…@host"),
        ("zip://a.csv::https://me:pw@host/a.zip", "zip://a.csv::https://…@host/a.zip"),
        ("key=http://me:pw@h:80/x?sig=1", "key=http://…@h:80/x?…"),
        ("'https://h/x.csv?sig=1': 403", "'https://h/x.csv?…': 403"),
        ("'https://h/x y.csv?sig=1': 403 & so", "'https://h/x y.csv?…': 403 & so"),
        ("https://h/x?q=a b&n='c'&sig=(1)", "https://h/x?…)"),
        ("'https://a?x=1' of 'https://b?y=1&z=2'", "'https://a?…' of 'https://b?…'"),
        ("(https://h/x#access_token=1&b=2)", "(https://h/x#…)"),
        ("HTTPS://ghp_x@host/x", "HTTPS://…@host/x"),
        ("https://ghp_x:@host/x", "https://…@host/x"),
        ("https:/me:pw@host/c.yaml: there", "https:/…@host/c.yaml: there"),
        ("/here/s3:/me:p/w@host/x?sig=1", "/here/s3:/me:…@host/x?…"),
        ("//me:pw@host/x", "//me:…@host/x"),
        ("s3://me%3Apw@bucket", "s3://me%3A…@bucket"),
        ("git+https://ghp_x:x-oauth-basic@host", "git+https://…@host"),
        *(
            (plain, plain)
            for plain in (
                "https://host:8080/me@here.csv",
                "http://[::1]:80/me@here",
                "http://127.0.0.1:8265: no answer; ask me@host",
                "abfs://container@account/x",
                "ssh://git@host/x",
                "a // b: c@d",
                "runs:/home/a:b@c",
                "s3://bucket@x/y",
                '["https://host","me@here"]',
                "https://host/x#part is a=b",
                "zip://a@b.csv::https://host/a@b.zip",
                "is it https://host/x? (maybe)",
                "https://…@host/a.csv?…:12: column b, ask me@host",
                "not a URL: me:pw@host?x=1",
            )
        ),
    ],
)
def test_passwords_and_queries_are_replaced_and_nothing_else(text: str, expected: str) -> None:
    assert shown(text) == shown(expected) == expected
    assert has_password(text) == ("…@" in expected and text != expected)


def test_a_text_about_a_url_is_without_its_secrets_in_any_form() -> None:
    url = "ftp://me:hunter%402@host/x?token=cafe"
    said = "login as me with hunter@2 failed (token=cafe, cafe, hunter%402)"
    assert hidden(said, url) == "login as me with … failed (…, …, …)"
    assert hidden("ghp_x has no access", "https://ghp_x:x@host") == "… has no access"


def test_a_secret_stays_a_name_in_whatever_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abc")
    secret = TypeAdapter(nlpkit.Secret).validate_json('{"env": "A_TOKEN"}')
    assert secret.reveal() == "abc"
    assert "abc" not in f"{secret} {secret!r} {secret.model_dump()}"
    for wrong in ('"abc"', '{"env": "no name"}', '{"env": "A", "b": 1}'):
        with pytest.raises(ValidationError, match="is a secret, which no config holds"):
            TypeAdapter(nlpkit.Secret).validate_json(wrong)
