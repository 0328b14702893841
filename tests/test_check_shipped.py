"""`check` finds nothing wrong with the manifests as they are shipped."""

from pathlib import Path

import pytest
from manifests import RENDERS, render

from app.checks import limits, manifest, routing
from app.settings import Settings
from handlers import ROUTES


@pytest.mark.parametrize("name", RENDERS)
def test_nothing_is_wrong_with_what_is_shipped(name: str, tmp_path: Path) -> None:
    """The ScaledJob, its ConfigMap, and the routes that are in the image."""
    found = render(name)
    told = manifest.variables(found.objects)
    assert told["QUEUE_URL"] == found.configuration["QUEUE_URL"]
    settings = Settings.from_env(told | {"SPOOL_DIR": str(tmp_path)})
    assert list(manifest.judge(found.objects, settings)) == []
    assert list(limits.judge(settings)) == []
    assert list(routing.judge(ROUTES, settings)) == []
