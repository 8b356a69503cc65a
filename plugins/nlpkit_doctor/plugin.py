"""What is wrong with a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_commands() -> Iterator[nlpkit.CommandRecord]:
    """`nlpkit doctor`."""
    yield nlpkit.CommandRecord(
        name="doctor",
        target="nlpkit_doctor.command:command",
        summary="Say what is wrong with this machine, and what to do",
        group="Look",
        example="nlpkit doctor",
    )
