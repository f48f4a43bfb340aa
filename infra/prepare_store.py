"""Make the buckets, switch versioning on, and prove that the store keeps the promise our commits rest on.

Runs once at start-up with the store's admin key (service `store-init` in compose, Job in Kubernetes).
Some stores accept `If-None-Match: *` and ignore it; on such a store two writers could both believe they
published. So the second conditional put must be refused here, or nothing else starts.
"""

from __future__ import annotations

import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

BUCKETS = ("lake", "mlflow")
PROBE = "genpipe-probe/conditional-put"


def wait_until_writable(s3: Any, *, attempts: int = 60) -> None:
    """Health endpoints answer before writes succeed, so ask for a real write."""
    for attempt in range(attempts):
        try:
            for bucket in BUCKETS:
                make_bucket(s3, bucket)
                s3.put_object(Bucket=bucket, Key="genpipe-probe/ready", Body=b"ready")
            return
        except (BotoCoreError, ClientError):
            if attempt == attempts - 1:
                raise
            time.sleep(2)


def make_bucket(s3: Any, bucket: str) -> None:
    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def check_conditional_put(s3: Any) -> None:
    """The second create of one key must answer 412."""
    s3.delete_object(Bucket="lake", Key=PROBE)
    s3.put_object(Bucket="lake", Key=PROBE, Body=b"first", IfNoneMatch="*")
    try:
        s3.put_object(Bucket="lake", Key=PROBE, Body=b"second", IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
            return
        raise
    raise SystemExit(
        "this object store ignores If-None-Match: genpipe cannot publish safely on it; use another store"
    )


if __name__ == "__main__":
    client = boto3.client("s3")  # address and keys from AWS_ENDPOINT_URL and AWS_* in the environment
    wait_until_writable(client)
    check_conditional_put(client)
    print("object store ready: buckets", ", ".join(BUCKETS), "- versioned, conditional puts honoured")
