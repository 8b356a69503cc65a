"""The options of the components that have some."""

from __future__ import annotations

from pydantic import PositiveInt

import nlpkit


class EchoTaskConfig(nlpkit.ComponentConfig):
    """Where the text is."""

    text: str = "text"


class EchoModelConfig(nlpkit.ComponentConfig):
    """How large the model is."""

    width: PositiveInt = 8
