"""What the gateway counts, for Prometheus. One registry a gateway: nothing is global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER = "other"  # every path that is no route: strangers must not make labels
CLIENT_GONE = 499  # nginx's number for a client that left before the answer began


class Metrics:
    """Counters; see the texts below. Labels are routes and status codes only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by route and status", "route", "status")
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens absorbed")
        self.completion_tokens = self._counter("completion_tokens", "Tokens generated")
        self.cancelled = self._counter("cancelled", "Requests whose client left before the end")
        self.recoveries = self._counter("recoveries", "Peers replaced in running sessions")
        self.rolls = self._counter("rolls", "Running sessions that went on with a newer revision")
        self.first_token_seconds = Histogram(
            "seshu_gateway_first_token_seconds",
            "Time from a request to its first new token",
            registry=self.registry,
            buckets=FIRST_TOKEN_SECONDS,
        )
        self.sessions = Gauge(
            "seshu_gateway_sessions", "Sessions that are open now", registry=self.registry
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"seshu_gateway_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """All of them as Prometheus reads them (text format 0.0.4)."""
        return generate_latest(self.registry)
