"""What /metrics shows: counts and times, nothing of what was said."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edge_sir.server.outcome import Match, Outcome

__all__ = ["Metrics"]

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """In a registry of its own, so that two servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.waiting = Gauge("edge_sir_waiting", "Requests in the queue", registry=registry)
        self.live = Gauge("edge_sir_live", "Requests under way", registry=registry)
        self.responses = Counter("edge_sir_responses", "Answers by status", ["route", "status"], registry=registry)
        self.first_s = Histogram(
            "edge_sir_first_piece_seconds", "From arrival to the first piece", buckets=_SECONDS, registry=registry
        )
        self._waited_s = Histogram("edge_sir_waited_seconds", "In the queue", buckets=_SECONDS, registry=registry)
        self._matches = Counter("edge_sir_matches", "How conversations were found", ["match"], registry=registry)
        self._read = Counter("edge_sir_read_tokens", "Decoded and not generated", registry=registry)
        self._generated = Counter("edge_sir_generated_tokens", "Generated", registry=registry)
        self._evicted = Counter("edge_sir_evicted_tokens", "Evicted", registry=registry)
        self._held = Counter("edge_sir_held_tokens", "Resident when a request came, not read again", registry=registry)

    def begun(self, match: Match, waited_s: float) -> None:
        """A request left the queue."""
        self._matches.labels(match).inc()
        self._waited_s.observe(waited_s)

    def ended(self, outcome: Outcome) -> None:
        """A request was answered."""
        self._read.inc(outcome.n_read)
        self._generated.inc(outcome.n_generated)
        self._evicted.inc(outcome.evicted)
        self._held.inc(outcome.n_held)

    def text(self) -> bytes:
        """In the form that Prometheus reads."""
        return generate_latest(self.registry)
