"""What a container decides before it starts anything; what it does then is in test_built.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from jupyter_server.auth.security import passwd_check

import kept
from nlpkit_image import health, jupyter, paths, ray, ssh, user
from nlpkit_image.paths import StartError
from nlpkit_image.user import Person

TABLE = """\
21 1 0:20 / / rw - overlay overlay rw
22 21 0:21 / /proc rw - proc proc rw
23 21 8:1 /home/me/data /workspace/data rw - ext4 /dev/sda1 rw
24 21 8:1 /home/me/my\\040runs /workspace/models/my\\040runs rw - ext4 /dev/sda1 rw
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
ME = Person(os.getuid(), os.getgid(), Path("/home/nlp"), "nlp", root=False)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for module in (jupyter, ssh, ray):
        monkeypatch.setattr(module, "STATE", tmp_path / "state")
    for module in (ssh, ray):
        monkeypatch.setattr(module, "SETTINGS", tmp_path / "settings")
    monkeypatch.setattr(ssh, "HOST_KEYS", tmp_path / "settings" / "ssh")
    for name in (jupyter.HASH, jupyter.FILE, ssh.KEYS, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "settings").mkdir()
    return tmp_path / "state"


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_what_is_on_no_mount_is_named():
    assert paths.unmounted(TABLE) == ["models/runs", "models/final", "models/hub", "notebooks"]
    assert paths.mounted(Path("/workspace/models/my runs/a"), TABLE)


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [(0o644, "x", "everybody may read"), (0o600, " \n", "is empty"), (0o600, None, "cannot be")],
)
def test_a_secret_that_cannot_be_used_stops_the_start(mode, text, said, tmp_path):
    if text is not None:
        (tmp_path / "s").write_text(text)
        (tmp_path / "s").chmod(mode)
    with pytest.raises(StartError, match=said):
        paths.secret(tmp_path / "s")


def test_a_file_that_was_everybodys_becomes_private(tmp_path):
    (tmp_path / "s").write_text("old")
    (tmp_path / "s").chmod(0o666)
    paths.write_private(tmp_path / "s", "new", (os.getuid(), os.getgid()))
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "s").read_text() == "new"


def hash_in(line):
    (config,) = (word for word in line if word.startswith("--config="))
    path = Path(config.partition("=")[2])
    assert path.stat().st_mode & 0o777 == 0o600
    return json.loads(path.read_text())["PasswordIdentityProvider"]["hashed_password"]


def test_jupyter_gets_a_password_that_is_made_up_anew_each_time():
    lines = [jupyter.command(ME) for _ in range(2)]
    passwords = [told.split()[3] for _, told in lines]
    assert passwords[0] != passwords[1]
    assert len(passwords[0]) >= 20
    assert passwd_check(hash_in(lines[1][0]), passwords[1])


def test_jupyter_takes_the_password_of_a_file_and_shows_it_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv(jupyter.FILE, str(private(tmp_path / "password", "correct horse\n")))
    line, told = jupyter.command(ME)
    assert passwd_check(hash_in(line), "correct horse")
    assert "horse" not in " ".join([*line, told])


def test_jupyter_takes_a_hash(monkeypatch):
    given = "sha256:0123abcd:" + "f" * 64
    monkeypatch.setenv(jupyter.HASH, given)
    line, told = jupyter.command(ME)
    assert hash_in(line) == given
    assert given not in " ".join([*line, told])


@pytest.mark.parametrize("given", ["", " ", "secret", "argon2:", "sha1:ab:"])
def test_a_hash_that_is_none_stops_the_start(given, monkeypatch):
    monkeypatch.setenv(jupyter.HASH, given)
    with pytest.raises(StartError, match="is no hash of a password"):
        jupyter.command(ME)


def test_no_token_is_a_second_way_in():
    line, _ = jupyter.command(ME)
    assert {"--IdentityProvider.token=", "--PasswordIdentityProvider.token="} <= {*line}
    assert "--PasswordIdentityProvider.password_required=True" in line
    assert "--PasswordIdentityProvider.allow_password_change=False" in line
    assert {"JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE", jupyter.HASH, jupyter.FILE} == {*jupyter.REMOVED}


@pytest.mark.parametrize(
    ("variable", "file"),
    [(KEY, None), (None, f"# mine\n{KEY}\n\n"), (None, f'from="10.0.0.0/8" {KEY}\n')],
)
def test_ssh_takes_keys_of_a_file_or_a_variable(variable, file, tmp_path, monkeypatch, state):
    if variable:
        monkeypatch.setenv(ssh.KEYS, variable)
    else:
        (tmp_path / "settings" / "authorized_keys").write_text(file)
    line, _ = ssh.command(ME)
    assert line is not None
    folder = Path(line[-1]).parent
    assert KEY in (folder / "authorized_keys").read_text()
    settings = (folder / "sshd_config").read_text().splitlines()
    for expected in (
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin no",
        "AllowUsers nlp",
        "AllowTcpForwarding yes",
    ):
        assert expected in settings


def test_without_a_key_there_is_no_ssh_and_it_is_said_why(tmp_path):
    (tmp_path / "settings" / "authorized_keys").write_text("# nobody yet\n")
    line, told = ssh.command(ME)
    assert line is None
    assert ssh.KEYS in told


def test_a_user_without_an_entry_has_no_ssh():
    line, told = ssh.command(Person(1234, 5678, Path("/tmp"), "", root=False))
    assert line is None
    assert "uid 1234 has no entry" in told


def test_a_private_key_is_refused(tmp_path):
    (tmp_path / "settings" / "authorized_keys").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(StartError, match="give the public one"):
        ssh.command(ME)


def test_the_host_key_stays_the_same_where_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv(ssh.KEYS, KEY)
    ssh.HOST_KEYS.mkdir()
    ssh.command(ME)
    path = ssh.HOST_KEYS / "ssh_host_ed25519_key"
    before = path.read_bytes()
    ssh.command(ME)
    assert path.read_bytes() == before


def test_a_session_sees_what_it_needs_and_no_secret():
    given = {
        "PATH": "/opt/nlpkit/bin:/bin",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "HF_HUB_CACHE": "/workspace/models/hub",
        "HF_TOKEN": "hf_secret",
        "NLPKIT_WORKSPACE": "/workspace",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "RAY_AUTH_TOKEN": "secret",
        "NLPKIT_ODD": 'a" "B=c',
        "EDITOR": "vi",
    }
    seen = ssh._environment(given)
    assert seen == " ".join(
        f'"{name}={given[name]}"'
        for name in (
            "HF_HUB_CACHE",
            "LD_LIBRARY_PATH",
            "NLPKIT_WORKSPACE",
            "NVIDIA_VISIBLE_DEVICES",
            "PATH",
        )
    )


def test_a_cluster_without_a_token_does_not_start():
    assert ray.token(ME) == {}
    with pytest.raises(StartError, match="openssl rand"):
        ray.command("ray-head", [], {})


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_token_becomes_a_file_of_whoever_works_here(mode, tmp_path):
    private(tmp_path / "settings" / "token", "abc\n").chmod(mode)
    if mode == 0o644:
        with pytest.raises(StartError, match="everybody may read"):
            ray.token(ME)
        return
    path = Path(ray.token(ME)["RAY_AUTH_TOKEN_PATH"])
    assert path.read_text() == "abc"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_head_and_a_worker_start_as_on_any_machine(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    environment = ray.token(ME)
    given = ["--num-gpus=4", "--node-ip-address=10.0.0.1"]
    line = ray.command("ray-head", given, environment)
    assert line == ["sh", "/opt/nlpkit/jobs/head.sh", "10.0.0.1", "--num-gpus=4"]
    given = ["--address", "head:6379", "--node-ip-address", "10.0.0.2"]
    line = ray.command("ray-worker", given, environment)
    assert line == ["sh", "/opt/nlpkit/jobs/worker.sh", "head", "10.0.0.2"]
    with pytest.raises(StartError, match="--address HEAD"):
        ray.command("ray-worker", [], environment)


@pytest.mark.parametrize("name", ["NLP_UID", "NLP_GID"])
@pytest.mark.parametrize("given", ["0", "-1", "me", "1e3"])
def test_ids_that_are_none_stop_the_start(name, given, tmp_path, monkeypatch):
    monkeypatch.setenv(name, given)
    with pytest.raises(StartError, match=f'{name}: "{given}"'):
        user._wanted(tmp_path)


def test_ids_are_those_that_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_UID", "1234")
    monkeypatch.setenv("NLP_GID", "5678")
    assert user._wanted(tmp_path)[0] == (1234, 5678)


def test_the_health_of_what_does_not_answer_is_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "_ASKED", tmp_path / "health")
    assert health.main() == 0
    health.ask("http://127.0.0.1:1/login", ME)
    assert health.main() == 1


def test_the_bases_torch_is_kept():
    lines = kept.constraints("numpy==2.4.6\ntorch==1.0\ntorch-x==1\n# torch\n").splitlines()
    assert "numpy==2.4.6" in lines
    assert "torch-x==1" in lines
    assert "torch==1.0" not in lines
    assert any(line.startswith("torch==2.") for line in lines)
