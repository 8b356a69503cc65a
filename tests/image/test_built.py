"""The built image keeps its promises, started as an engine would start it (`make image-test`)."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shlex
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.image.containers import (
    BASE,
    IMAGE,
    MIRRORS,
    buildah,
    private,
    status,
    until,
)

pytestmark = pytest.mark.image

UNKNOWN = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
AT = "nlp@127.0.0.1:/workspace"
LONG = """
name: long
data: sample
tokenizer: wordpiece
model: {name: transformer, layers: 1, hidden: 32, heads: 2}
train: {epochs: 500}
"""


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def logged_in(url, password):
    """The status of what only the owner may read, after a login."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{url}/login", timeout=10).read()
    xsrf = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
    form = urllib.parse.urlencode({"password": password, "_xsrf": xsrf}).encode()
    try:
        opener.open(f"{url}/login", form, timeout=10).read()
        with opener.open(f"{url}/api/contents", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def ssh_line(ports, key, *words, user="nlp", options=()):
    line = ["ssh", "-p", ports["SSH_PORT"], "-i", str(key), "-o", "IdentitiesOnly=yes"]
    line += ["-o", "NumberOfPasswordPrompts=0", *UNKNOWN, *options]
    return [*line, f"{user}@127.0.0.1", *words]


def ssh(ports, key, *words, **given):
    line = ssh_line(ports, key, *words, **given)
    return subprocess.run(
        line, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL
    )


def test_it_adds_little_to_its_base(image, record_property):
    sizes = {}
    for name in (BASE, image):
        made = buildah("from", name).strip()
        root = buildah("mount", made).strip()
        counted = subprocess.run(["du", "-sb", root], capture_output=True, text=True, check=True)
        sizes[name] = int(counted.stdout.split()[0]) / 1e9
        buildah("umount", made)
        buildah("rm", made)
    record_property("gigabytes", sizes[image] - sizes[BASE])
    assert 0.3 < sizes[image] - sizes[BASE] <= 1.5


def test_nothing_is_left_that_should_not_be(box):
    for path in ("root/.cache", "source", "wheels", "apt-mirror", "etc/apt.kept"):
        assert not (box.root / path).exists()
    assert not [*(box.root / "etc/ssh").glob("ssh_host_*")]
    assert not [*(box.root / "var/lib/apt/lists").glob("*Packages*")]


def test_mirrors_leave_no_trace(image, box):
    described = buildah("inspect", "--type", "image", image)
    found = ["grep", "-rlE", "|".join(MIRRORS.values())]
    found += [str(box.root / each) for each in ("etc", "opt/nlpkit/pyvenv.cfg", "root", "home")]
    files = subprocess.run(found, capture_output=True, text=True, check=False).stdout
    for name, value in MIRRORS.items():
        assert name not in described
        assert value not in described
    assert not files


def test_pip_is_the_environments_and_keeps_torch(box):
    done = box.run("bash", "-c", "type -P pip && pip install --dry-run torch==2.6.0")
    assert done.stdout.split()[0] == "/opt/nlpkit/bin/pip"
    assert done.returncode == 1
    assert "constraint" in done.stdout + done.stderr


def test_nothing_is_run_from_the_workspace_by_root(box):
    """Whose owner may write there what root's health check would import."""
    health = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    words = health["Healthcheck"]["Test"][1:]
    (box.root / "workspace" / "urllib.py").write_text("raise SystemExit('imported')")
    done = box.execute("sh", "-c", f"cd /workspace && {shlex.join(words)}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_bases_torch_is_the_one_that_is_imported(box):
    code = "import torch, sys; print(torch.__file__, sys.prefix)"
    done = box.run("python", "-c", code)
    assert done.stdout.split() == [
        "/usr/local/lib/python3.11/dist-packages/torch/__init__.py",
        "/opt/nlpkit",
    ]


def test_jupyter_answers_to_the_password_alone(box, ports, folders, tmp_path):
    secret = private(tmp_path / "password", "correct horse\n")
    env = {**ports, "JUPYTER_PASSWORD_FILE": "/run/secrets/password", "JUPYTER_TOKEN": "abc"}
    box.start(mounts={**folders, secret: "/run/secrets/password"}, env=env)
    url = f"http://127.0.0.1:{ports['JUPYTER_PORT']}"
    until(lambda: status(f"{url}/login") == 200, f"Jupyter\n{box.log}")
    assert status(f"{url}/api/contents") == 403
    for token in ("abc", "anything", ""):
        assert status(f"{url}/api/contents?token={token}") == 403
        assert status(f"{url}/api/contents", Authorization=f"token {token}") == 403
    assert logged_in(url, "wrong") in (401, 403)
    assert logged_in(url, "correct horse") == 200
    listed = box.execute(
        "setpriv",
        "--reuid=1234",
        "--regid=5678",
        "--clear-groups",
        *"env HOME=/home/nlp jupyter server list".split(),
    )
    assert url.rpartition(":")[2] in listed.stdout + listed.stderr
    for text in (listed.stdout, listed.stderr, box.log):
        assert "token=" not in text.replace("token=[secret]", "")  # which the log makes of one
        assert "abc" not in text
        assert "horse" not in text
    (server,) = box.named("/opt/nlpkit/bin/jupyter", "lab")
    assert Path(f"/proc/{server}").stat().st_uid == 1234
    assert box.execute("python", "-P", "-m", "nlpkit_image.health").returncode == 0
    assert box.stop() == 128 + signal.SIGTERM
    assert not box.pids()
    assert box.execute("python", "-P", "-m", "nlpkit_image.health").returncode == 1


def test_a_password_is_made_up_where_none_is_given(box, ports, folders):
    box.start(mounts=folders, env=ports)
    url = f"http://127.0.0.1:{ports['JUPYTER_PORT']}"
    until(lambda: status(f"{url}/login") == 200, f"Jupyter\n{box.log}")
    (password,) = re.findall(r"with the password (\S+) ", box.log)
    assert logged_in(url, password) == 200


@pytest.mark.parametrize(
    ("env", "mode", "said"),
    [
        ({"JUPYTER_PASSWORD_HASH": ""}, 0o600, "is no hash of a password"),
        ({"JUPYTER_PASSWORD_FILE": "/run/secrets/password"}, 0o644, "everybody may read"),
        ({"NLP_UID": "0"}, 0o600, "no id of a user that is not root"),
    ],
)
def test_it_does_not_start_open(box, ports, tmp_path, env, mode, said):
    secret = private(tmp_path / "password", "secret")
    secret.chmod(mode)
    done = box.run(mounts={secret: "/run/secrets/password"}, env={**ports, **env}, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_server_that_ends_is_seen_and_ends_the_container(box, ports, folders):
    box.start(mounts=folders, env=ports)
    until(lambda: box.named("bin/jupyter", "lab"), f"Jupyter\n{box.log}")
    os.kill(box.named("bin/jupyter", "lab")[0], signal.SIGKILL)
    assert box.ended() == 1
    assert "error: Jupyter Lab ended with code -9" in box.log


def test_ssh_takes_the_key_and_nothing_else(box, ports, folders, key, tmp_path):
    (tmp_path / "ssh").mkdir()
    mounts = {
        **folders,
        tmp_path / "ssh": "/etc/nlpkit/ssh",
        key.with_suffix(".pub"): "/etc/nlpkit/authorized_keys",
    }
    box.start(mounts=mounts, env={**ports, "HF_TOKEN": "hf_abc", "NLPKIT_STRICT_PLUGINS": "1"})
    box.waits_for("Server listening")
    done = ssh(ports, key, "nlpkit", "doctor", "--json")
    assert done.returncode in (0, 1), done.stderr
    seen = json.loads(done.stdout)["facts"]
    own = json.loads(box.execute("nlpkit", "doctor", "--json").stdout)["facts"]
    assert seen["python"] == own["python"]
    assert seen["torch"]["version"] == own["torch"]["version"]
    for login in ("env", "bash -lc env"):
        variables = ssh(ports, key, login).stdout.splitlines()
        assert "NLPKIT_WORKSPACE=/workspace" in variables
        assert "NLPKIT_STRICT_PLUGINS=1" in variables
        assert any(line.startswith("PATH=/opt/nlpkit/bin:") for line in variables)
        assert "hf_abc" not in "\n".join(variables)
    assert ssh(ports, key, "id -u").stdout == "1234\n"
    assert "Permission denied" in ssh(ports, key, "id", user="root").stderr
    password = ("-o", "PubkeyAuthentication=no")
    assert "Permission denied (publickey)" in ssh(ports, key, "id", options=password).stderr
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    assert "Permission denied" in ssh(ports, other, "id").stderr
    forward = ("-W", f"127.0.0.1:{ports['JUPYTER_PORT']}")
    line = ssh_line(ports, key, options=forward)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tunnel:
        tunnel.stdin.write(b"GET /login HTTP/1.0\r\n\r\n")
        tunnel.stdin.flush()
        assert tunnel.stdout.readline().startswith(b"HTTP/1.1 200")
        tunnel.kill()
    batch = subprocess.run(
        ["sftp", "-q", "-P", ports["SSH_PORT"], "-i", str(key), "-b", "-", *UNKNOWN, AT],
        input="ls\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "models" in batch.stdout
    assert [path.name for path in (tmp_path / "ssh").glob("*_key")] == ["ssh_host_ed25519_key"]


def test_without_a_key_it_is_said_why_there_is_no_ssh(box, ports, folders):
    box.start(mounts=folders, env=ports)
    box.waits_for("no SSH: no key: mount one at /etc/nlpkit/authorized_keys")
    assert not box.named("sshd")


def test_a_training_in_a_session_saves_before_the_container_ends(
    box, ports, folders, key, tmp_path
):
    mounts = {**folders, key.with_suffix(".pub"): "/etc/nlpkit/authorized_keys"}
    (tmp_path / "data" / "config.yaml").write_text(LONG)
    box.start(mounts=mounts, env=ports)
    box.waits_for("Server listening")
    train = "nlpkit train /workspace/data/config.yaml > /workspace/models/log 2>&1"
    assert ssh(ports, key, f"tmux new-session -d '{train}'").returncode == 0
    metrics = tmp_path / "models" / "runs" / "long" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.stat().st_size, "a step")
    assert box.stop() == 128 + signal.SIGTERM
    assert "--resume" in (tmp_path / "models" / "log").read_text()
