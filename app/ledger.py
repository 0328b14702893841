"""The identity of a piece of work: the same for every delivery and every attempt of it."""

import hashlib

from app.ports import ObjectFacts


def work_key(facts: ObjectFacts, route: str, version: str) -> str:
    """SHA-256, in hex, over the object's version and the route that processes it.

    Never over the message's id: the same work comes under several.
    """
    if facts.version_id:
        content = ("version", facts.version_id)
    else:
        content = (facts.etag, facts.last_modified.isoformat())
    named = (facts.bucket, facts.key, *content, route, version)
    # Each name with its length, so that no two lists of names read the same.
    text = "".join(f"{len(name)}:{name}" for name in named)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
