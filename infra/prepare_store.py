"""Make the buckets, switch versioning on, prove that the store keeps the promise our commits rest on.

It also refuses a store that still knows a key of the example.

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
# what stands in s3.example.json: whoever has read it could log in with these
EXAMPLE_KEYS = {
    "S3_ADMIN_ACCESS_KEY": "S3_ADMIN_SECRET_KEY",
    "AWS_ACCESS_KEY_ID": "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_S3_ACCESS_KEY": "MLFLOW_S3_SECRET_KEY",
}
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


def check_no_example_key() -> None:
    """No identity may still have the key that stands in the example."""
    for key, secret in EXAMPLE_KEYS.items():
        try:
            boto3.client("s3", aws_access_key_id=key, aws_secret_access_key=secret).list_buckets()
        except ClientError:
            continue
        raise SystemExit(
            f"s3.json still has the key {key} of s3.example.json, which everybody knows: put yours in"
        )


if __name__ == "__main__":
    client = boto3.client("s3")  # address and keys from AWS_ENDPOINT_URL and AWS_* in the environment
    wait_until_writable(client)
    check_conditional_put(client)
    check_no_example_key()
    print("object store ready: buckets", ", ".join(BUCKETS), "- versioned, conditional puts honoured")
