"""Writes a manifest with the size and the SHA-256 of any object."""

import hashlib
import json

from app.handler import Job


async def checksum(job: Job) -> None:
    """Hash the bytes as stored, and write `<key>.manifest.json`."""
    digest = hashlib.sha256()
    size = 0
    async for chunk in job.object.chunks():
        digest.update(chunk)
        size += len(chunk)
        job.progress(size, job.object.size)
    manifest = {
        "bucket": job.object.bucket,
        "key": job.object.key,
        "version_id": job.object.version_id,
        "etag": job.object.etag,
        "size": size,
        "sha256": digest.hexdigest(),
    }
    async with job.output(f"{job.object.key}.manifest.json", "application/json") as out:
        await out.write(json.dumps(manifest, indent=2).encode())
