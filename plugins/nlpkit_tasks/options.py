"""Options that several tasks have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nlpkit.engine.settings import Settings


def _can_be_had(values: dict[str, Any]) -> dict[str, Any]:
    Settings.of(values)
    return values


Generate = Annotated[
    dict[str, Any],
    AfterValidator(_can_be_had),
    Field(
        description="How texts are written where nothing else is asked: {max_tokens: 128, method: "
        "greedy | sample | beam, beams: 4, length_penalty: 0.6, temperature: 1.0, top_k: null, "
        "top_p: null, stop: [], seed: 13}.",
    ),
]
