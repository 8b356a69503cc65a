"""What tasks that write texts have in common: prompts or sources go in, and texts come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Codec, Prediction, pad
from nlpkit.engine.generate import generate, generating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nlpkit.contracts import Arrays, Batch, Engine
    from nlpkit.engine.settings import Settings


class WritingCodec(Codec):
    """The second half of a task that writes.

    Attributes:
        field: Of a prediction, the one that has the text.
        eos: The id that ends a text.
    """

    field: str
    eos: int

    def begun(self, batch: Batch) -> tuple[Sequence[np.ndarray], Mapping[str, np.ndarray] | None]:
        """What each text goes on from, and the inputs of the graph "encoder" where there is one."""
        raise NotImplementedError

    def predict(self, engine: Engine, batch: Batch, settings: Settings) -> Arrays:
        """What follows for each row: its `text` [rows, bytes] as UTF-8, how many `bytes` that are,
        its `score`, and whether it is `complete`."""
        prompts, source = self.begun(batch)
        found = generate(engine, prompts, settings, source=source, **self._known)
        texts = [each.text.encode() for each in found]
        return {
            "text": pad([np.frombuffer(text, np.uint8) for text in texts]),
            "bytes": np.array([*map(len, texts)]),
            "score": np.array([each.score for each in found]),
            "complete": np.array([each.complete for each in found]),
        }

    def decode(self, outputs: Arrays, batch: Batch) -> list[Prediction]:
        """The text, `score`, the mean log-probability of its tokens, and `complete`."""
        texts = zip(outputs["text"], outputs["bytes"], strict=True)
        found = [text[:size].tobytes().decode() for text, size in texts]
        rest = (outputs[name].tolist() for name in ("score", "complete"))
        return [
            Prediction(**{self.field: text}, score=score, complete=complete)
            for text, score, complete in zip(found, *rest, strict=True)
        ]

    def writing(
        self, engine: Engine, batch: Batch, settings: Settings, stopped: Callable[[int], bool]
    ) -> Iterator[tuple[int, Callable[[], str], Prediction | None]]:
        """As the contract has it."""
        prompts, source = self.begun(batch)
        for row, said, found in generating(
            engine, prompts, settings, source=source, stopped=stopped, **self._known
        ):
            rest = found and {"score": found.score, "complete": found.complete}
            yield row, said, Prediction(**{self.field: said()}, **rest) if rest else None

    @property
    def _known(self) -> dict[str, Any]:
        size, text = self.vocabulary.size, self.vocabulary.text
        return {"end": [self.eos], "vocabulary": size, "text": text}
