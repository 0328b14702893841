"""The Job this process runs in, asked of Kubernetes; and a render read from a file."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import msgspec

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_SECONDS = 5.0


class UnreadableError(Exception):
    """It is there, but cannot be read; the text says why."""


def own_job(environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> dict[str, Any] | None:
    """The spec of this pod's Job; None outside of Kubernetes.

    Raises:
        UnreadableError: Kubernetes does not tell.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    job, namespace = environ.get("JOB_NAME"), environ.get("POD_NAMESPACE")
    if not host:
        return None
    if not (job and namespace):
        raise UnreadableError("JOB_NAME and POD_NAMESPACE are not set")
    try:
        token = (account / "token").read_text().strip()
        trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except OSError as error:
        raise UnreadableError(f"the pod has no service account token ({error})") from None
    # The address of a name of IPv6 stands in brackets.
    where = f"[{host}]" if ":" in host else host
    url = f"https://{where}:{port or 443}/apis/batch/v1/namespaces/{namespace}/jobs/{job}"
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=API_SECONDS, context=trust) as answer:  # noqa: S310
            return dict(msgspec.json.decode(answer.read())["spec"])
    except (URLError, OSError, msgspec.MsgspecError, KeyError) as error:
        raise UnreadableError(f"{url}: {error}") from None


def documents_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a render, YAML or JSON.

    Raises:
        UnreadableError: it is neither, or YAML cannot be read here.
    """
    text = os.fsdecode(path.read_bytes())
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = _yaml(path, text)
    items = found if isinstance(found, list) else [found]
    return [inner for one in items if isinstance(one, dict) for inner in one.get("items") or [one]]


def _yaml(path: Path, text: str) -> list[Any]:
    try:
        import yaml
    except ImportError:
        raise UnreadableError(
            f"{path}: is not JSON, and YAML needs PyYAML (pip install pyyaml); "
            "`kubectl get scaledjob NAME -o json` gives JSON"
        ) from None
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise UnreadableError(f"{path}: is no YAML: {error}") from None
