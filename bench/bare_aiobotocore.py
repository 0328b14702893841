"""The same calls as `bare_boto3.py`, over aiobotocore on asyncio; none of the safety either."""

import asyncio
import hashlib
import json
import os
import sys
from urllib.parse import unquote_plus


async def main() -> None:
    """Take one message through."""
    # botocore imports it wherever it is installed; this script's environment would not have it.
    sys.modules["awscrt"] = None  # type: ignore[assignment]
    from aiobotocore.session import get_session

    queue_url, output_bucket = os.environ["QUEUE_URL"], os.environ["OUTPUT_BUCKET"]
    session = get_session()
    async with session.create_client("sqs") as sqs, session.create_client("s3") as s3:
        answer = await sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1)
        message = answer["Messages"][0]
        named = json.loads(message["Body"])["Records"][0]["s3"]
        bucket, key = named["bucket"]["name"], unquote_plus(named["object"]["key"])
        digest = hashlib.sha256()
        got = await s3.get_object(Bucket=bucket, Key=key)
        async with got["Body"]:
            async for chunk in got["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
        manifest = json.dumps({"key": key, "sha256": digest.hexdigest()}).encode()
        await s3.put_object(Bucket=output_bucket, Key=f"bare/{key}.manifest.json", Body=manifest)
        await sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    asyncio.run(main())
