"""What `GET /metrics` tells Prometheus, in a registry of its own for each service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What one service counts."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter(
            "nlpkit_requests",
            "Requests: predictions that were answered, and everything that was refused",
            ["status"],
            registry=own,
        )
        self.texts = Counter("nlpkit_texts", "Texts that were answered", registry=own)
        self.seconds = Histogram(
            "nlpkit_request_seconds",
            "From the last byte of a request for predictions to the first of its answer",
            buckets=_SECONDS,
            registry=own,
        )
        self.batch = Histogram(
            "nlpkit_batch_texts",
            "Texts, of all requests, that were taken together when the model was free",
            buckets=_TEXTS,
            registry=own,
        )
        self.waiting = Gauge("nlpkit_waiting_texts", "Texts that wait for the model", registry=own)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
