"""The least that does the job over boto3: receive, get, hash, put, delete; none of the safety."""

import hashlib
import json
import os
import sys
from urllib.parse import unquote_plus


def main() -> None:
    """Take one message through."""
    # botocore imports it wherever it is installed; this script's environment would not have it.
    sys.modules["awscrt"] = None  # type: ignore[assignment]
    import boto3

    queue_url, output_bucket = os.environ["QUEUE_URL"], os.environ["OUTPUT_BUCKET"]
    sqs, s3 = boto3.client("sqs"), boto3.client("s3")
    message = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1)["Messages"][0]
    named = json.loads(message["Body"])["Records"][0]["s3"]
    bucket, key = named["bucket"]["name"], unquote_plus(named["object"]["key"])
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(chunk)
    manifest = json.dumps({"key": key, "sha256": digest.hexdigest()}).encode()
    s3.put_object(Bucket=output_bucket, Key=f"bare/{key}.manifest.json", Body=manifest)
    sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
