"""What the program says of itself: named events, each one log line and its metrics."""

from app.telemetry.events import Telemetry

__all__ = ["Telemetry"]
