"""What a model without fault would get of a task that writes: its tokens give back no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.metrics import of_predictions

if TYPE_CHECKING:
    from nlpkit.contracts import Codec, Example

_LOOKED_AT = 1_000  # targets


class Ceiling:
    """The metrics of what is written, where each target is written token by token."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._count = codec, 0
        self._metrics = of_predictions(codec.metrics())

    def add(self, example: Example) -> None:
        """An evaluated row; others are not looked at, and no more than the first thousand."""
        if not self._metrics or self._count == _LOOKED_AT:
            return
        if faultless := self._codec.faultless(example):
            self._count += 1
            batch = self._codec.collate([example], [0])
            for metric in self._metrics:
                metric.update([faultless], batch)

    def found(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Values and details of the metrics; none where no row was looked at."""
        values, details = dict[str, float](), dict[str, Any]()
        for metric in self._metrics if self._count else ():
            values |= metric.compute(metric.state)
            details |= metric.details(metric.state)
        return values, details
