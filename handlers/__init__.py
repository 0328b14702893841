"""The routes: which objects go to which handler. The first one that matches wins.

Patterns are those of fnmatch, on the whole key: `*` matches slashes too, so that `*.csv` takes
`incoming/2026/data.csv`.
"""

from app.handler import Route
from handlers.checksum import checksum
from handlers.csv_profile import csv_profile

ROUTES = [
    *(Route(f"*.csv{packed}", csv_profile) for packed in ("", ".gz", ".zst", ".bz2", ".xz")),
    Route("*", checksum),
]
