"""What a container decides before it starts anything; what it does then is in test_built.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from jupyter_server.auth.security import passwd_check

import kept
from nlpkit_image import health, jupyter, others, paths, ray, ssh, user
from nlpkit_image.paths import StartError
from nlpkit_image.user import Person
from tests.image.containers import REPOSITORY

TABLE = """\
21 1 0:20 / / rw - overlay overlay rw
22 21 0:21 / /proc rw - proc proc rw
23 21 8:1 /home/me/data /workspace/data rw - ext4 /dev/sda1 rw
24 21 8:1 /home/me/my\\040runs /workspace/models/my\\040runs rw - ext4 /dev/sda1 rw
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"


@pytest.fixture(autouse=True)
def me(tmp_path, monkeypatch):
    """Whoever runs this, with a home and settings of their own."""
    for module in (ssh, ray):
        monkeypatch.setattr(module, "SETTINGS", tmp_path / "settings")
    monkeypatch.setattr(ssh, "HOST_KEYS", tmp_path / "settings" / "ssh")
    for name in (jupyter.HASH, jupyter.FILE, ssh.KEYS, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "settings").mkdir()
    return Person(os.getuid(), os.getgid(), tmp_path / "home", "nlp", root=False)


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


def test_jupyter_gets_a_password_that_is_made_up_anew_each_time(me):
    lines = [jupyter.command(me) for _ in range(2)]
    passwords = [told.split()[3] for _, told in lines]
    assert passwords[0] != passwords[1]
    assert len(passwords[0]) >= 20
    assert passwd_check(hash_in(lines[1][0]), passwords[1])


def test_jupyter_asks_nobody_whether_there_is_a_newer_one(me):
    assert (
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in jupyter.command(me)[0]
    )


def test_jupyter_takes_the_password_of_a_file_and_shows_it_nowhere(me, tmp_path, monkeypatch):
    monkeypatch.setenv(jupyter.FILE, str(private(tmp_path / "password", "correct horse\n")))
    line, told = jupyter.command(me)
    assert passwd_check(hash_in(line), "correct horse")
    assert "horse" not in " ".join([*line, told])


def test_jupyter_takes_a_hash(me, monkeypatch):
    given = "sha256:0123abcd:" + "f" * 64
    monkeypatch.setenv(jupyter.HASH, given)
    line, told = jupyter.command(me)
    assert hash_in(line) == given
    assert given not in " ".join([*line, told])


@pytest.mark.parametrize("given", ["", " ", "secret", "argon2:", "sha1:ab:"])
def test_a_hash_that_is_none_stops_the_start(me, given, monkeypatch):
    monkeypatch.setenv(jupyter.HASH, given)
    with pytest.raises(StartError, match="is no hash of a password"):
        jupyter.command(me)


def test_no_token_is_a_second_way_in(me):
    line, _ = jupyter.command(me)
    assert {"--IdentityProvider.token=", "--PasswordIdentityProvider.token="} <= {*line}
    assert "--PasswordIdentityProvider.password_required=True" in line
    assert "--PasswordIdentityProvider.allow_password_change=False" in line
    assert {"JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE", jupyter.HASH, jupyter.FILE} == {*jupyter.REMOVED}


@pytest.mark.parametrize(
    ("variable", "file"),
    [(KEY, None), (None, f"# mine\n{KEY}\n\n"), (None, f'from="10.0.0.0/8" {KEY}\n')],
)
def test_ssh_takes_keys_of_a_file_or_a_variable(me, variable, file, tmp_path, monkeypatch):
    if variable:
        monkeypatch.setenv(ssh.KEYS, variable)
    else:
        (tmp_path / "settings" / "authorized_keys").write_text(file)
    line, _ = ssh.command(me)
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


def test_without_a_key_there_is_no_ssh_and_it_is_said_why(me, tmp_path):
    (tmp_path / "settings" / "authorized_keys").write_text("# nobody yet\n")
    line, told = ssh.command(me)
    assert line is None
    assert ssh.KEYS in told


def test_a_user_without_an_entry_has_no_ssh():
    line, told = ssh.command(Person(1234, 5678, Path("/tmp"), "", root=False))
    assert line is None
    assert "uid 1234 has no entry" in told


def test_a_private_key_is_refused(me, tmp_path):
    (tmp_path / "settings" / "authorized_keys").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(StartError, match="give the public one"):
        ssh.command(me)


def test_the_host_key_stays_the_same_where_it_is_kept(me, tmp_path, monkeypatch):
    monkeypatch.setenv(ssh.KEYS, KEY)
    ssh.HOST_KEYS.mkdir()
    ssh.command(me)
    path = ssh.HOST_KEYS / "ssh_host_ed25519_key"
    before = path.read_bytes()
    ssh.command(me)
    assert path.read_bytes() == before


def test_a_session_sees_what_it_needs_and_no_secret():
    given = {
        "PATH": "/opt/nlpkit/bin:/bin",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "HF_HUB_CACHE": "/workspace/models/hub",
        "HF_TOKEN": "hf_secret",
        "ORT_DISABLE_TELEMETRY": "1",
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
            "ORT_DISABLE_TELEMETRY",
            "PATH",
        )
    )


def test_a_cluster_without_a_token_does_not_start(me):
    assert ray.token(me) == {}
    with pytest.raises(StartError, match="openssl rand"):
        ray.command("ray-head", [], {})


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_token_becomes_a_file_of_whoever_works_here(me, mode, tmp_path):
    private(tmp_path / "settings" / "token", "abc\n").chmod(mode)
    if mode == 0o644:
        with pytest.raises(StartError, match="everybody may read"):
            ray.token(me)
        return
    path = Path(ray.token(me)["RAY_AUTH_TOKEN_PATH"])
    assert path.read_text() == "abc"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_head_and_a_worker_start_as_on_any_machine(me, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    environment = ray.token(me)
    given = ["--num-gpus=4", "--node-ip-address=10.0.0.1"]
    line = ray.command("ray-head", given, environment)
    assert line == ["sh", "/opt/nlpkit/jobs/head.sh", "10.0.0.1", "--num-gpus=4"]
    given = ["--address", "head:6379", "--node-ip-address", "10.0.0.2"]
    line = ray.command("ray-worker", given, environment)
    assert line == ["sh", "/opt/nlpkit/jobs/worker.sh", "head", "10.0.0.2"]
    with pytest.raises(StartError, match="--address HEAD"):
        ray.command("ray-worker", [], environment)


@pytest.mark.parametrize("name", ["NLP_UID", "NLP_GID"])
@pytest.mark.parametrize("given", ["0", "-1", "me", "1e3", "4294967295"])
def test_ids_that_are_none_stop_the_start(name, given, tmp_path, monkeypatch):
    monkeypatch.setenv(name, given)
    with pytest.raises(StartError, match=f'{name}: "{given}"'):
        user._wanted(tmp_path)


def test_ids_are_those_that_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_UID", "1415601108")  # as a directory service gives them
    monkeypatch.setenv("NLP_GID", "5678")
    assert user._wanted(tmp_path)[0] == (1415601108, 5678)


@pytest.mark.parametrize(("owner", "expected"), [((1234, 0), (1234, 1000)), ((0, 0), (1000, 1000))])
def test_nobody_becomes_root_by_the_owner_of_the_data(owner, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(user, "mounted", lambda _: True)
    os.chown(tmp_path, *owner)
    assert user._wanted(tmp_path)[0] == expected


def test_what_belongs_to_others_or_lies_behind_a_link_keeps_its_owner(tmp_path):
    (tmp_path / "nas" / "deep").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "nas")
    folder = tmp_path / "notebooks"
    (folder / "old").mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "nas")
    (folder / "roots").touch()
    for path in (tmp_path / "nas" / "deep", tmp_path / "nas", folder / "old"):
        os.chown(path, 1000, 1000)
    for each in (tmp_path / "models", folder):
        user._hand_over(each, 1000, (1234, 5678))
    assert [(tmp_path / each).stat().st_uid for each in ("nas", "nas/deep")] == [1000, 1000]
    assert [(folder / each).stat().st_uid for each in ("", "old", "roots")] == [1234, 1234, 0]


def test_trainings_save_before_the_container_ends_and_idle_shells_are_not_waited_for(
    tmp_path, monkeypatch
):
    saves = (
        "import signal, sys, time\ndef save(*_):\n time.sleep(1); open('saved', 'w'); sys.exit()"
    )
    saves += "\nsignal.signal(signal.SIGTERM, save); print(flush=True); time.sleep(60)"
    shell = "trap '' TERM; echo; exec sleep 60"
    lines = ([sys.executable, "-c", saves], ["sh", "-c", shell])
    running = [subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE) for line in lines]
    try:
        for each in running:
            each.stdout.readline()
        monkeypatch.setattr(others, "_others", lambda _: [each.pid for each in running])
        started = time.monotonic()
        others.main(set())
        assert (tmp_path / "saved").exists()
        assert time.monotonic() - started < 20
        assert running[1].poll() is None
    finally:
        for each in running:
            each.kill()
            each.communicate()


def test_others_are_those_with_the_same_root(monkeypatch):
    found = subprocess.Popen(["sleep", "60"])
    try:
        assert found.pid in others._others(set())
        assert found.pid not in others._others({found.pid})
        monkeypatch.setattr(os.path, "samefile", lambda *_: False)
        assert others._others(set()) == []
    finally:
        found.kill()
        found.wait()


def test_the_services_of_compose_are_this_machines_alone_and_the_workers_wait_for_the_head():
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]
    ports = [port for each in services.values() for port in each.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name in ("worker-1", "worker-2"):
        assert services[name]["command"] == ["ray-worker", "--address", "head"]
        assert services[name]["depends_on"] == {"head": {"condition": "service_healthy"}}


def test_the_health_of_what_does_not_answer_is_bad(me, monkeypatch):
    monkeypatch.setattr(health, "state", lambda: me.state)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert health.main() == 0
    health.ask("http://127.0.0.1:1/login")
    assert health.main() == 1
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        health.ask(f"http://127.0.0.1:{server.server_port}")
        assert health.main() == 0


def test_the_bases_torch_is_kept():
    lines = kept.constraints("numpy==2.4.6\ntorch==1.0\ntorch-x==1\n# torch\n").splitlines()
    assert "numpy==2.4.6" in lines
    assert "torch-x==1" in lines
    assert "torch==1.0" not in lines
    assert any(line.startswith("torch==2.") for line in lines)


@pytest.mark.parametrize("name", ["examples/image", "nlpkit/commands/starter"])
def test_images_of_ones_own_begin_with_this_version(name):
    text = (REPOSITORY / name / "Dockerfile").read_text("utf-8")
    assert f"\nFROM nlpkit:{metadata.version('nlpkit-sdk')}-torch2.7.1-cu128\n" in text
