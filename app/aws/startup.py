"""Makes the SDK quick to begin: a pod's whole life is often shorter than the SDK's start."""

import gzip
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec


@contextmanager
def _without_crt() -> Iterator[None]:
    """Keep botocore from importing awscrt: it costs 45 ms, and nothing here signs with it."""
    missing = "awscrt" not in sys.modules
    if missing:
        sys.modules["awscrt"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if missing:
            del sys.modules["awscrt"]


with _without_crt():
    import aiohttp
    from aiobotocore.httpsession import AIOHTTPSession
    from botocore.httpsession import create_urllib3_context, get_cert_path
    from botocore.loaders import JSONFileLoader, Loader


@cache
def service_models(data_path: str | None) -> Loader:
    """The loader of service models that all sessions share: they are read-only.

    Args:
        data_path: AWS_DATA_PATH, with further folders to look in.
    """
    extra = [os.path.expanduser(path) for path in (data_path or "").split(os.pathsep) if path]  # noqa: PTH111
    return _Models(extra_search_paths=extra, file_loader=_ModelFiles())


class _Models(Loader):  # type: ignore[misc]
    """Finds service models without looking into the folders of all four hundred services."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's
        """The names of the folders; the model asked for is then looked for in its own."""
        folders = [Path(folder) for folder in self.search_paths if Path(folder).is_dir()]
        return [entry.name for folder in folders for entry in folder.iterdir()]


class _ModelFiles(JSONFileLoader):  # type: ignore[misc]
    """Reads service models with a decoder several times as fast as the SDK's."""

    def load_file(self, file_path: str) -> Any:
        """The model, None where there is no such file."""
        try:
            return msgspec.json.decode(Path(f"{file_path}.json").read_bytes())
        except FileNotFoundError:
            pass
        try:
            return msgspec.json.decode(gzip.decompress(Path(f"{file_path}.json.gz").read_bytes()))
        except FileNotFoundError:
            return None


class SharedTrust(AIOHTTPSession):  # type: ignore[misc]
    """Shares one TLS context between clients: reading the certificates outlasts a request.

    Overrides a private method of aiobotocore, which is locked; whatever is out of the ordinary
    (a proxy, a client's certificate, no verification) is left to it.
    """

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        if proxy_url or self._cert_file or not self._verify:
            connector: aiohttp.TCPConnector = super()._create_connector(proxy_url)
            return connector
        trust = _trust(get_cert_path(self._verify))
        return aiohttp.TCPConnector(
            limit=self._max_pool_connections, ssl=trust, **self._connector_args
        )


@cache
def _trust(certificates: str | None) -> ssl.SSLContext:
    context: ssl.SSLContext = create_urllib3_context()
    if certificates:
        context.load_verify_locations(certificates)
    return context
