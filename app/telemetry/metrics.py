"""The metrics of one process, in a registry of its own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

PREFIX = "file_processor"
_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200)


class Metrics:
    """One attribute per metric; their names are part of the contract with users."""

    def __init__(self) -> None:
        # `_created` series would double what a gateway has to keep for nothing one asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        self.jobs_launched = self._counter("jobs_launched", "Processes that began.")
        # Labelled, so that a group has one only once its pod has said its last word.
        self.jobs_finished = self._counter("jobs_finished", "Processes that ended.", "outcome")
        self.job_start = self._gauge("job_start_time_seconds", "When it began, in Unix time.")
        self.messages = self._counter("messages", "Messages settled.", "outcome", "handler")
        self.failures = self._counter("failures", "Attempts that failed.", "reason")
        self.retries = self._counter("retries", "Messages received more than once.")
        self.object_bytes = self._counter("object_bytes", "Bytes read of objects.")
        self.wasted_bytes = self._counter("wasted_bytes", "Bytes read by uncommitted attempts.")
        self.duplicates = self._counter("duplicates", "Deliveries of work already done.")
        self.lease_renewals = self._counter("lease_renewals", "Renewals of a lease.", "result")
        self.lease_lost = self._counter("lease_lost", "Leases that could not be proven any more.")
        self.lease_headroom = self._gauge("lease_headroom_seconds", "The least seen at a renewal.")
        self.message_age = self._gauge("message_age_seconds", "Age at the first receive.")
        self.job_seconds = Histogram(
            "job_seconds",
            "From the receive to the settlement.",
            ("outcome", "handler"),
            namespace=PREFIX,
            buckets=_SECONDS,
            registry=self.registry,
        )

    def counters(self) -> dict[str, float]:
        """Every sample that is not 0, by its name and labels; histograms' buckets left out."""
        found: dict[str, float] = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                if sample.value and not sample.name.endswith("_bucket"):
                    labels = ",".join(f'{name}="{text}"' for name, text in sample.labels.items())
                    found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, namespace=PREFIX, registry=self.registry)
