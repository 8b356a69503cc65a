"""The file that says how a pool decides; NLPKIT_POOL names it where Ray's head is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from nlpkit.config import strict_yaml
from nlpkit.config.explain import Complaint, explain, unknown_key
from nlpkit.config.schema import Frame, Origin
from nlpkit.errors import ConfigError, InputError, Problem
from nlpkit_ray.decide import Policy

if TYPE_CHECKING:
    from nlpkit.config.strict_yaml import Fault


class _User(Frame):
    gpus: PositiveFloat = Field(description="How many GPUs this user's jobs may have together.")


class _Policy(Frame):
    overtake: NonNegativeInt = 4
    age_hours: PositiveFloat = 12.0
    waiting: PositiveInt = 100
    gpus_per_user: PositiveFloat | None = None
    users: Annotated[dict[str, _User], Field(default_factory=dict)]


def read_policy(path: str | None) -> Policy:
    """The policy of a file; the defaults without one; no queue for "off".

    Raises:
        ConfigError: What is wrong with the file, by line.
    """
    if not path:
        return Policy()
    if path == "off":
        return Policy(off=True)
    try:
        document = strict_yaml.read(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"NLPKIT_POOL: {path}: {error.strerror}") from None
    if document.faults:
        raise ConfigError(_problem(path, fault.line, fault) for fault in document.faults)
    try:
        found = _Policy.model_validate(document.value or {})
    except ValidationError as error:
        complaints = map(_sentence, explain(error, _Policy, document.value))
        lines = document.lines
        raise ConfigError(
            _problem(path, lines.get(each.path, 1), each) for each in complaints
        ) from None
    given = found.model_dump(exclude={"users"})
    return Policy(**given, users={name: user.gpus for name, user in found.users.items()})


def _problem(path: str, line: int, found: Fault | Complaint) -> Problem:
    return Origin(f"{path}:{line}").problem(found.path, found.message, found.remedy)


def _sentence(found: Complaint) -> Complaint:
    """A complaint; about a key that there is not, with the one that was probably meant."""
    known = _User if len(found.path) > 1 else _Policy
    unknown = found.kind == "extra_forbidden"
    return unknown_key(found.path, known.model_fields) if unknown else found
