#!/usr/bin/env python3
"""Checks the local Kinesis and DynamoDB with the AWS CLI as an operator uses it.

    pip install awscli==1.46.3
    shardkeeper local --kinesis-port 4567 --dynamodb-port 8000
    check.py --aws aws --kinesis http://127.0.0.1:4567 --dynamodb http://127.0.0.1:8000

Ends at the first mismatch with exit code 1 and a line that says what was expected and what came. SubscribeToShard is
missing: this CLI does not offer operations with event streams.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import uuid


class Mismatch(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Mismatch(f"{what}: expected {wanted!r}, got {got!r}")


class Aws:
    def __init__(self, command, service, endpoint):
        self.start = [command, service]
        self.common = ["--endpoint-url", endpoint, "--region", "us-east-1", "--output", "json"]
        self.env = dict(os.environ, AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local", AWS_PAGER="")

    def run(self, *arguments):
        command = [*self.start, *arguments, *self.common]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=120)

    def __call__(self, *arguments):
        done = self.run(*arguments)
        if done.returncode != 0:
            raise Mismatch(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, code, *arguments):
        done = self.run(*arguments)
        if done.returncode == 0 or f"({code})" not in done.stderr:
            raise Mismatch(f"{' '.join(arguments)}: expected {code}, got {done.stdout}{done.stderr}")


def check_kinesis(aws, name):
    stream = ["--stream-name", name]
    aws("create-stream", *stream, "--shard-count", "2", "--tags", "team=x")
    summary = aws("describe-stream-summary", *stream)["StreamDescriptionSummary"]
    expect("status", summary["StreamStatus"], "ACTIVE")
    arn = summary["StreamARN"]
    with tempfile.NamedTemporaryFile() as data:
        data.write(b"hello")
        data.flush()
        put = aws("put-record", *stream, "--partition-key", "k", "--data", f"fileb://{data.name}")
    shard = ["--shard-id", put["ShardId"]]
    iterator = aws("get-shard-iterator", *stream, *shard, "--shard-iterator-type", "TRIM_HORIZON")["ShardIterator"]
    records = aws("get-records", "--shard-iterator", iterator)["Records"]
    expect("records", [base64.b64decode(record["Data"]) for record in records], [b"hello"])
    expect("shards", len(aws("list-shards", *stream)["Shards"]), 2)
    # Not list-shards: the CLI names the stream beside the page token, which the service refuses.
    described = aws("describe-stream", *stream, "--page-size", "1")["StreamDescription"]
    expect("all shards, page by page", len(described["Shards"]), 2)
    aws("increase-stream-retention-period", *stream, "--retention-period-hours", "48")
    aws("update-shard-count", *stream, "--target-shard-count", "4", "--scaling-type", "UNIFORM_SCALING")
    expect("open shards", aws("describe-stream-summary", *stream)["StreamDescriptionSummary"]["OpenShardCount"], 4)
    expect("tags", aws("list-tags-for-stream", *stream)["Tags"], [{"Key": "team", "Value": "x"}])
    consumer = aws("register-stream-consumer", "--stream-arn", arn, "--consumer-name", "app")["Consumer"]
    described = aws("describe-stream-consumer", "--consumer-arn", consumer["ConsumerARN"])["ConsumerDescription"]
    expect("consumer", (described["ConsumerStatus"], described["StreamARN"]), ("ACTIVE", arn))
    expect("consumers", len(aws("list-stream-consumers", "--stream-arn", arn)["Consumers"]), 1)
    aws("deregister-stream-consumer", "--stream-arn", arn, "--consumer-name", "app")
    aws("start-stream-encryption", *stream, "--encryption-type", "KMS", "--key-id", "alias/aws/kinesis")
    metrics = aws("enable-enhanced-monitoring", *stream, "--shard-level-metrics", "ALL")
    expect("metrics", len(metrics["DesiredShardLevelMetrics"]), 7)
    expect("limits", "ShardLimit" in aws("describe-limits"), True)
    aws.refused("ResourceInUseException", "create-stream", *stream, "--shard-count", "1")
    aws.refused("ResourceNotFoundException", "describe-stream", "--stream-name", name + "-x")
    aws("delete-stream", *stream, "--enforce-consumer-deletion")
    expect("gone", name in aws("list-streams")["StreamNames"], False)


def check_dynamodb(aws, name):
    table = ["--table-name", name]
    aws(
        "create-table", *table, "--billing-mode", "PAY_PER_REQUEST",
        "--attribute-definitions", "AttributeName=leaseKey,AttributeType=S",
        "--key-schema", "AttributeName=leaseKey,KeyType=HASH",
    )
    put = ["put-item", *table, "--item", '{"leaseKey": {"S": "a"}}', "--condition-expression", "attribute_not_exists(leaseKey)"]
    aws(*put)
    aws.refused("ConditionalCheckFailedException", *put)
    aws("delete-table", *table)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aws", default="aws")
    parser.add_argument("--kinesis", required=True)
    parser.add_argument("--dynamodb", required=True)
    options = parser.parse_args()
    name = "cli-" + uuid.uuid4().hex[:8]
    try:
        check_kinesis(Aws(options.aws, "kinesis", options.kinesis), name)
        check_dynamodb(Aws(options.aws, "dynamodb", options.dynamodb), name)
    except Mismatch as mismatch:
        print(f"MISMATCH {mismatch}", file=sys.stderr)
        return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
