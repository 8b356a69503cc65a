"""SSH for editors: with keys only, for the one user, and with the image's own environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit_image.paths import SETTINGS, StartError, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit_image.user import Person

KEYS, PORT = "SSH_AUTHORIZED_KEYS", "SSH_PORT"
HOST_KEYS = SETTINGS / "ssh"
"""On a volume, so that the server stays the one that people know."""

_SEEN = re.compile(
    r"(PATH|LD_LIBRARY_PATH|LANG|CUDA_\w+|NVIDIA_\w+|HF_\w+|NLPKIT_\w+|ORT_DISABLE_TELEMETRY)"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY")
_KEY = re.compile(r"(^|\s)(ssh-|ecdsa-|sk-)\S+ AAAA")
_SETTINGS = """\
Port {port}
ListenAddress 0.0.0.0
HostKey {host_key}
AuthorizedKeysFile {keys}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
PermitUserEnvironment no
PermitEmptyPasswords no
UsePAM no
AllowUsers {user}
AllowTcpForwarding yes
X11Forwarding no
PrintMotd no
PidFile none
Subsystem sftp internal-sftp
SetEnv {environment}
"""


def command(who: Person) -> tuple[list[str] | None, str]:
    """The command line of the server, and what to tell; None where it does not start, and why."""
    if not who.name:
        return None, f"uid {who.uid} has no entry in /etc/passwd, which sshd needs to serve it"
    text = _keys()
    if not text:
        return None, (f"no key: mount one at {SETTINGS}/authorized_keys, or set {KEYS} to its line")
    root = (0, 0) if who.root else (who.uid, who.gid)
    folder = who.state / "ssh"
    keys = write_private(folder / "authorized_keys", text + "\n", root)
    keys.chmod(0o644)  # sshd reads it as the user
    folder.chmod(0o755)
    host_key = _host_key(folder)
    port = os.environ.get(PORT) or "22"
    if not port.isdigit():
        raise StartError(f'{PORT}: "{port}" is no port')
    settings = _SETTINGS.format(
        port=port,
        host_key=host_key,
        keys=keys,
        user=who.name,
        environment=_environment(os.environ),
    )
    path = write_private(folder / "sshd_config", settings, root)
    if who.root:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's, else it refuses to start
    line = ["/usr/sbin/sshd", "-D", "-e", "-f", str(path)]
    return line, f"as {who.name}, with keys only, on port {port}"


def _keys() -> str:
    """Lines of authorized_keys, from the mounted file and the variable."""
    parts = [os.environ.get(KEYS, "")]
    path = SETTINGS / "authorized_keys"
    if path.is_file():
        try:
            parts.append(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StartError(f"{path}: cannot be read ({error})") from None
    lines = [line.strip() for part in parts for line in part.splitlines()]
    if any("PRIVATE KEY" in line for line in lines):
        raise StartError(f"{path}: holds a private key; give the public one, which ends in .pub")
    return "\n".join(line for line in lines if _KEY.search(line))


def _host_key(folder: Path) -> Path:
    """The server's own key, made at the first start."""
    keep = HOST_KEYS if os.access(HOST_KEYS, os.W_OK) else folder
    path = keep / "ssh_host_ed25519_key"
    if not path.exists():
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
        run = subprocess.run(made, capture_output=True, text=True, check=False)
        if run.returncode:
            raise StartError(f"{path}: cannot be made ({run.stderr.strip()})")
    return path


def _environment(variables: Mapping[str, str]) -> str:
    """What a session is given, for sshd gives it nothing: a fixed list, and never a secret."""
    seen = {
        name: value
        for name, value in sorted(variables.items())
        if _SEEN.fullmatch(name) and not _SECRET.search(name) and not re.search(r'["\n\\]', value)
    }
    return " ".join(f'"{name}={value}"' for name, value in seen.items())
