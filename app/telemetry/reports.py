"""What a process sends of itself beside its log: metrics to a gateway, spans to a collector."""

import time
from collections.abc import Mapping

from app.settings import Settings
from app.telemetry import otlp
from app.telemetry.events import Telemetry
from app.telemetry.otlp import SpanExport
from app.telemetry.push import Pusher
from app.telemetry.tracing import Spans


class Reports:
    """Sends what is configured to be sent; whatever comes of that, the job goes on.

    Args:
        environ: with OpenTelemetry's own variables.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._pusher: Pusher | None = None
        self._export: SpanExport | None = None
        self._hindrance: str | None = None
        if otlp.is_wanted(environ):
            self._hindrance = otlp.hindrance(environ)
            if self._hindrance is None:
                self._export = SpanExport(_resource(settings))
        self.telemetry = Telemetry(spans=Spans(self._export.add if self._export else None))

    def begin(self) -> None:
        """Tell the gateway that the process has started."""
        if self._hindrance is not None:
            self.telemetry.spans_lost(self._hindrance)
        if self._settings.pushgateway_url is not None:
            self._pusher = Pusher(
                self._settings.pushgateway_url,
                self._settings.metrics_job,
                self._settings.pod_name,
                self.telemetry.metrics.registry,
            )
            self._pusher.push()

    def finish(self, seconds: float) -> None:
        """Send what there is to be sent at the end, both at once, within so many seconds."""
        ends = time.monotonic() + seconds
        flushed = self._export.flush() if self._export else None
        if self._pusher is not None:
            failed = self._pusher.finish(seconds)
            if failed is not None:
                self.telemetry.push_failed(failed)
        if self._export is not None and flushed is not None:
            failed = self._export.finish(flushed, max(0.0, ends - time.monotonic()))
            if failed is not None:
                self.telemetry.spans_lost(repr(failed))


def _resource(settings: Settings) -> dict[str, str]:
    """OpenTelemetry's names for this pod."""
    known = {
        "service.name": settings.metrics_job,
        "service.instance.id": settings.pod_name,
        "k8s.pod.name": settings.pod_name,
        "k8s.job.name": settings.job_name,
        "k8s.namespace.name": settings.pod_namespace or "",
    }
    return {name: value for name, value in known.items() if value}
