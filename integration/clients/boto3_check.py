#!/usr/bin/env python3
"""Checks the local Kinesis and DynamoDB with boto3 as anybody uses it: producer, consumer and operator.

    pip install boto3==1.44.5
    shardkeeper local --kinesis-port 4567 --dynamodb-port 8000
    boto3_check.py --kinesis http://127.0.0.1:4567 --dynamodb http://127.0.0.1:8000

Ends at the first mismatch with exit code 1 and a line that says what was expected and what came. Streams and tables
have names that no other run uses, and are deleted at the end.
"""

import argparse
import datetime
import sys
import time
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

RUN = uuid.uuid4().hex[:8]
HASH_KEYS = 2**128


class Mismatch(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Mismatch(f"{what}: expected {wanted!r}, got {got!r}")


def expect_error(what, code, call, **kwargs):
    try:
        call(**kwargs)
    except ClientError as error:
        got = error.response["Error"]
        expect(f"{what}: error name", got["Code"], code)
        if not got.get("Message"):
            raise Mismatch(f"{what}: {code} has no message")
        expect(f"{what}: request id is present", bool(error.response["ResponseMetadata"].get("RequestId")), True)
        return
    raise Mismatch(f"{what}: expected {code}, but the call succeeded")


def wait_for(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.25)  # DescribeStreamSummary is taken 20 times a second, for all of an account.
    raise Mismatch(f"{what}: not within {seconds} s")


def read(kinesis, iterator, wanted, seconds=30):
    """Reads records until there are `wanted` of them or the shard ends; returns the last answer too."""
    records, deadline = [], time.monotonic() + seconds
    while True:
        try:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=1000)
        except kinesis.exceptions.ProvisionedThroughputExceededException:
            time.sleep(0.25)
            continue
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if iterator is None or len(records) >= wanted:
            return records, answer
        if time.monotonic() > deadline:
            raise Mismatch(f"read {len(records)} records in {seconds} s, expected {wanted}")
        time.sleep(0.22)


def active(kinesis, name):
    return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"


def check_streams(kinesis, name):
    kinesis.create_stream(StreamName=name, ShardCount=2, Tags={})
    wait_for("stream becomes ACTIVE", lambda: active(kinesis, name))
    kinesis.get_waiter("stream_exists").wait(StreamName=name)

    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    arn = summary["StreamARN"]
    expect("ARN ends in the name", arn.endswith(f":stream/{name}"), True)
    expect("open shards", summary["OpenShardCount"], 2)
    expect("retention", summary["RetentionPeriodHours"], 24)
    expect("mode", summary["StreamModeDetails"], {"StreamMode": "PROVISIONED"})
    age = abs((datetime.datetime.now(datetime.timezone.utc) - summary["StreamCreationTimestamp"]).total_seconds())
    expect("creation time is now", age < 120, True)

    full = kinesis.describe_stream(StreamARN=arn)["StreamDescription"]
    expect("DescribeStream name", full["StreamName"], name)
    expect("DescribeStream shards", [s["ShardId"] for s in full["Shards"]], ["shardId-000000000000", "shardId-000000000001"])
    expect("first hash key", full["Shards"][0]["HashKeyRange"]["StartingHashKey"], "0")
    expect("last hash key", full["Shards"][1]["HashKeyRange"]["EndingHashKey"], str(HASH_KEYS - 1))

    names = [n for page in kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1}) for n in page["StreamNames"]]
    expect("ListStreams has the stream once", names.count(name), 1)
    # Not by boto3's paginator: it repeats the name beside the token, which the service refuses.
    pages = [kinesis.list_shards(StreamName=name, MaxResults=1)]
    while "NextToken" in pages[-1]:
        pages.append(kinesis.list_shards(NextToken=pages[-1]["NextToken"], MaxResults=1))
    expect("ListShards pages", len(pages), 2)
    expect("ListShards over pages", [s["ShardId"] for p in pages for s in p["Shards"]], [s["ShardId"] for s in full["Shards"]])
    return arn


def check_records(kinesis, name, arn):
    shards = [s["ShardId"] for s in kinesis.list_shards(StreamName=name)["Shards"]]
    latest = {
        s: kinesis.get_shard_iterator(StreamName=name, ShardId=s, ShardIteratorType="LATEST")["ShardIterator"] for s in shards
    }

    one = kinesis.put_record(StreamName=name, Data=b"\x00\xff one", PartitionKey="k\u00e9y \"1\"")
    second = kinesis.put_record(
        StreamARN=arn, Data=b"two", PartitionKey="k\u00e9y \"1\"", SequenceNumberForOrdering=one["SequenceNumber"]
    )
    expect("a key keeps its shard", second["ShardId"], one["ShardId"])
    expect("sequence numbers grow", int(second["SequenceNumber"]) > int(one["SequenceNumber"]), True)
    low = kinesis.put_record(StreamName=name, Data=b"low", PartitionKey="x", ExplicitHashKey="0")
    expect("hash key 0 is in shard 0", low["ShardId"], shards[0])
    high = kinesis.put_record(StreamName=name, Data=b"high", PartitionKey="x", ExplicitHashKey=str(HASH_KEYS - 1))
    expect("the largest hash key is in shard 1", high["ShardId"], shards[1])

    put = kinesis.put_records(
        StreamName=name, Records=[{"Data": f"batch {n}".encode(), "PartitionKey": f"user-{n}"} for n in range(100)]
    )
    expect("failed records", put["FailedRecordCount"], 0)
    expect("outcomes", len(put["Records"]), 100)
    sent = {(r["ShardId"], r["SequenceNumber"]) for r in put["Records"] + [one, second, low, high]}
    expect("sequence numbers are distinct", len(sent), 104)

    got = set()
    for shard in shards:
        wanted = sum(1 for s, _ in sent if s == shard)
        records, answer = read(kinesis, latest[shard], wanted)
        expect(f"records of {shard} after LATEST", len(records), wanted)
        numbers = [int(r["SequenceNumber"]) for r in records]
        expect(f"{shard} is in order", numbers, sorted(numbers))
        expect(f"{shard} is caught up", answer["MillisBehindLatest"], 0)
        expect(f"{shard} is open", "ChildShards" in answer, False)
        got |= {(shard, r["SequenceNumber"]) for r in records}
        if shard == one["ShardId"]:
            first = next(r for r in records if r["SequenceNumber"] == one["SequenceNumber"])
            expect("payload", first["Data"], b"\x00\xff one")
            expect("partition key", first["PartitionKey"], "k\u00e9y \"1\"")
            age = abs((datetime.datetime.now(datetime.timezone.utc) - first["ApproximateArrivalTimestamp"]).total_seconds())
            expect("arrival is now", age < 120, True)
            arrival = first["ApproximateArrivalTimestamp"]
    expect("everything put was read, and nothing else", got, sent)

    def first_after(shard, **position):
        iterator = kinesis.get_shard_iterator(StreamARN=arn, ShardId=shard, **position)["ShardIterator"]
        records, _ = read(kinesis, iterator, 1)
        return records[0]["SequenceNumber"]

    shard = one["ShardId"]
    at = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": one["SequenceNumber"]}
    after = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": one["SequenceNumber"]}
    expect("AT_SEQUENCE_NUMBER", first_after(shard, **at), one["SequenceNumber"])
    expect("AFTER_SEQUENCE_NUMBER", first_after(shard, **after), second["SequenceNumber"])
    time.sleep(1)
    expect("TRIM_HORIZON", first_after(shard, ShardIteratorType="TRIM_HORIZON"), one["SequenceNumber"])
    expect("AT_TIMESTAMP", first_after(shard, ShardIteratorType="AT_TIMESTAMP", Timestamp=arrival), one["SequenceNumber"])


def check_resharding(kinesis, name, arn):
    zero = "shardId-000000000000"
    kinesis.split_shard(StreamName=name, ShardToSplit=zero, NewStartingHashKey=str(HASH_KEYS // 4))
    wait_for("split is done", lambda: active(kinesis, name))
    shards = {s["ShardId"]: s for s in kinesis.list_shards(StreamARN=arn)["Shards"]}
    expect("shards after the split", sorted(shards), [f"shardId-{n:012}" for n in range(4)])
    expect("children name their parent", {shards[f"shardId-{n:012}"]["ParentShardId"] for n in (2, 3)}, {zero})
    expect("the parent is closed", "EndingSequenceNumber" in shards[zero]["SequenceNumberRange"], True)

    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=zero, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    _, end = read(kinesis, iterator, sys.maxsize)
    expect("children at the end of the shard", [c["ShardId"] for c in end["ChildShards"]], ["shardId-000000000002", "shardId-000000000003"])
    expect("their parents", [c["ParentShards"] for c in end["ChildShards"]], [[zero], [zero]])

    kinesis.merge_shards(StreamName=name, ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000001")
    wait_for("merge is done", lambda: active(kinesis, name))
    merged = kinesis.list_shards(StreamName=name, ExclusiveStartShardId="shardId-000000000003")["Shards"]
    expect("the merged shard", [s["ShardId"] for s in merged], ["shardId-000000000004"])
    expect("its parents", (merged[0]["ParentShardId"], merged[0]["AdjacentParentShardId"]), ("shardId-000000000003", "shardId-000000000001"))
    open_now = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    expect("open shards", [s["ShardId"] for s in open_now], ["shardId-000000000002", "shardId-000000000004"])
    oldest = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_TRIM_HORIZON"})["Shards"]
    expect("oldest shards", [s["ShardId"] for s in oldest], [zero, "shardId-000000000001"])

    updated = kinesis.update_shard_count(StreamName=name, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    expect("UpdateShardCount", (updated["CurrentShardCount"], updated["TargetShardCount"]), (2, 4))
    wait_for("new shard count is reached", lambda: active(kinesis, name))
    open_now = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    expect("open shards after UpdateShardCount", len(open_now), 4)


def check_retention(kinesis, name):
    def hours():
        return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["RetentionPeriodHours"]

    kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    wait_for("retention is raised", lambda: active(kinesis, name) and hours() == 48)
    kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
    wait_for("retention is lowered", lambda: active(kinesis, name) and hours() == 24)


def check_consumers(kinesis, name, arn, state):
    registered = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="check", Tags={"team": "payments"})["Consumer"]
    consumer = registered["ConsumerARN"]
    expect("consumer ARN", consumer.startswith(f"{arn}/consumer/check:"), True)
    expect("status in the answer", registered["ConsumerStatus"], "CREATING")

    def described(**reference):
        return kinesis.describe_stream_consumer(**reference)["ConsumerDescription"]

    wait_for("consumer becomes ACTIVE", lambda: described(ConsumerARN=consumer)["ConsumerStatus"] == "ACTIVE")
    by_name = described(StreamARN=arn, ConsumerName="check")
    expect("consumer by name", (by_name["ConsumerARN"], by_name["StreamARN"]), (consumer, arn))
    listed = [c["ConsumerName"] for page in kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn) for c in page["Consumers"]]
    expect("consumers", listed, ["check"])
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    expect("number of consumers", summary["ConsumerCount"], 1)
    expect_error("register it again", "ResourceInUseException", kinesis.register_stream_consumer, StreamARN=arn, ConsumerName="check")
    expect_error("delete a stream with consumers", "ResourceInUseException", kinesis.delete_stream, StreamName=name)
    expect("tags of the consumer", kinesis.list_tags_for_resource(ResourceARN=consumer)["Tags"], [{"Key": "team", "Value": "payments"}])
    state["consumer"] = consumer


def events_of(kinesis, consumer, shard, **position):
    return iter(kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard, StartingPosition=position)["EventStream"])


def next_event(events):
    return next(events)["SubscribeToShardEvent"]


def check_fan_out(kinesis, name, consumer):
    shard = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"][0]
    hash_key = shard["HashKeyRange"]["StartingHashKey"]
    shard = shard["ShardId"]

    def put(data):
        return kinesis.put_record(StreamName=name, Data=data, PartitionKey="k", ExplicitHashKey=hash_key)["SequenceNumber"]

    def subscribe(**position):
        return events_of(kinesis, consumer, shard, **position)

    first = put(b"first")
    events = subscribe(Type="AT_SEQUENCE_NUMBER", SequenceNumber=first)
    event = next_event(events)
    expect("what was there", [r["Data"] for r in event["Records"]], [b"first"])
    expect("continuation", event["ContinuationSequenceNumber"], first)
    expect("nothing waits", event["MillisBehindLatest"], 0)
    expect_error(
        "a second subscription", "ResourceInUseException", kinesis.subscribe_to_shard,
        ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "LATEST"},
    )
    expect_error(
        "a third one within a second", "LimitExceededException", kinesis.subscribe_to_shard,
        ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "LATEST"},
    )
    second = put(b"second")
    event = next_event(events)
    expect("what is put meanwhile", [(r["Data"], r["SequenceNumber"]) for r in event["Records"]], [(b"second", second)])
    idle = next_event(events)
    expect("an idle shard", (idle["Records"], idle["MillisBehindLatest"]), ([], 0))
    expect("its continuation", int(idle["ContinuationSequenceNumber"]) >= int(second), True)

    # More than five seconds after the first, another takes its place.
    successor = subscribe(Type="AFTER_SEQUENCE_NUMBER", SequenceNumber=idle["ContinuationSequenceNumber"])
    try:
        while True:
            next_event(events)
    except EventStreamError as error:
        expect("end of the first subscription", error.response["Error"]["Code"], "ResourceInUseException")

    third = put(b"third")
    kinesis.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=str(int(hash_key) + 10))
    records, event = [], {}
    while "ChildShards" not in event:
        event = next_event(successor)
        records += [r["SequenceNumber"] for r in event["Records"]]
    expect("records to the end of the shard", records, [third])
    expect("number of children", len(event["ChildShards"]), 2)
    expect("parents of the children", [c["ParentShards"] for c in event["ChildShards"]], [[shard], [shard]])
    expect("no continuation at the end", event.get("ContinuationSequenceNumber", ""), "")
    expect("the subscription is over", next(successor, None), None)
    wait_for("split is done", lambda: active(kinesis, name))

    kinesis.deregister_stream_consumer(ConsumerARN=consumer)

    def gone():
        try:
            kinesis.describe_stream_consumer(ConsumerARN=consumer)
        except kinesis.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_for("consumer is gone", gone)
    expect_error(
        "subscribe as no consumer", "ResourceNotFoundException", kinesis.subscribe_to_shard,
        ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "LATEST"},
    )


def check_settings(kinesis, name, arn):
    kinesis.add_tags_to_stream(StreamName=name, Tags={"team": "payments", "stage": "test"})
    kinesis.remove_tags_from_stream(StreamName=name, TagKeys=["stage"])
    page = kinesis.list_tags_for_stream(StreamName=name)
    expect("tags", (page["Tags"], page["HasMoreTags"]), ([{"Key": "team", "Value": "payments"}], False))
    kinesis.tag_resource(ResourceARN=arn, Tags={"owner": "me"})
    kinesis.untag_resource(ResourceARN=arn, TagKeys=["team"])
    expect("tags by ARN", kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"], [{"Key": "owner", "Value": "me"}])

    def encryption():
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return summary["StreamStatus"], summary.get("EncryptionType"), summary.get("KeyId")

    key = "alias/aws/kinesis"
    kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=key)
    wait_for("encryption is on", lambda: encryption() == ("ACTIVE", "KMS", key))
    expect("a record put now", kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")["EncryptionType"], "KMS")
    kinesis.stop_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=key)
    wait_for("encryption is off", lambda: encryption()[:2] == ("ACTIVE", "NONE"))
    metrics = kinesis.enable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["IncomingBytes"])
    expect("metrics", metrics["DesiredShardLevelMetrics"], ["IncomingBytes"])
    wait_for("stream becomes ACTIVE", lambda: active(kinesis, name))

    limits = kinesis.describe_limits()
    expect("DescribeLimits", limits["OpenShardCount"] > 0 and limits["OnDemandStreamCountLimit"] == 50, True)
    expect_error("DescribeLimits twice a second", "LimitExceededException", kinesis.describe_limits)
    settings = kinesis.describe_account_settings()
    expect("account settings", settings["MinimumThroughputBillingCommitment"]["Status"], "DISABLED")


def check_errors(kinesis, name):
    shard = "shardId-000000000001"
    gone = f"none-{RUN}"
    expect_error("create it again", "ResourceInUseException", kinesis.create_stream, StreamName=name, ShardCount=1)
    expect_error("describe no stream", "ResourceNotFoundException", kinesis.describe_stream, StreamName=gone)
    expect_error("summary of no stream", "ResourceNotFoundException", kinesis.describe_stream_summary, StreamName=gone)
    expect_error("list shards of no stream", "ResourceNotFoundException", kinesis.list_shards, StreamName=gone)
    expect_error("put to no stream", "ResourceNotFoundException", kinesis.put_record, StreamName=gone, Data=b"", PartitionKey="k")
    expect_error("delete no stream", "ResourceNotFoundException", kinesis.delete_stream, StreamName=gone)
    expect_error("stream not named", "InvalidArgumentException", kinesis.put_record, Data=b"", PartitionKey="k")
    expect_error("bad stream name", "ValidationException", kinesis.create_stream, StreamName="a b", ShardCount=1)
    expect_error("no shards", "ValidationException", kinesis.create_stream, StreamName=gone, ShardCount=-1)
    expect_error(
        "iterator of no shard", "ResourceNotFoundException", kinesis.get_shard_iterator,
        StreamName=name, ShardId="shardId-000000000099", ShardIteratorType="LATEST",
    )
    expect_error(
        "iterator without its number", "InvalidArgumentException", kinesis.get_shard_iterator,
        StreamName=name, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER",
    )
    expect_error(
        "iterator of unknown type", "ValidationException", kinesis.get_shard_iterator,
        StreamName=name, ShardId=shard, ShardIteratorType="NEWEST",
    )
    expect_error("iterator that is none", "InvalidArgumentException", kinesis.get_records, ShardIterator="none")
    expect_error("bad hash key", "ValidationException", kinesis.put_record, StreamName=name, Data=b"", PartitionKey="k", ExplicitHashKey="x")
    expect_error(
        "hash key beyond the shard", "InvalidArgumentException", kinesis.split_shard,
        StreamName=name, ShardToSplit="shardId-000000000002", NewStartingHashKey=str(HASH_KEYS - 1),
    )
    expect_error(
        "split a closed shard", "InvalidArgumentException", kinesis.split_shard,
        StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey="17",
    )
    expect_error(
        "merge with itself", "InvalidArgumentException", kinesis.merge_shards,
        StreamName=name, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000002",
    )
    expect_error("retention too long", "InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName=name, RetentionPeriodHours=9999)
    large = b"x" * (1024 * 1024 + 1)
    expect_error("record too large", "ValidationException", kinesis.put_record, StreamName=name, Data=large, PartitionKey="k")
    try:
        kinesis.get_records(ShardIterator="none")
    except kinesis.exceptions.InvalidArgumentException:
        pass  # The modelled exception class, not only the code.


def check_delete(kinesis, name):
    kinesis.delete_stream(StreamName=name)

    def gone():
        try:
            kinesis.describe_stream_summary(StreamName=name)
        except kinesis.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_for("stream is gone", gone)
    kinesis.create_stream(StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    wait_for("on-demand stream becomes ACTIVE", lambda: active(kinesis, name))
    expect("on-demand streams begin with four shards", len(kinesis.list_shards(StreamName=name)["Shards"]), 4)
    kinesis.delete_stream(StreamName=name)
    wait_for("stream is gone again", gone)


def check_dynamodb(dynamodb, name):
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    wait_for("table becomes ACTIVE", lambda: dynamodb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    item = {"leaseKey": {"S": "shardId-000000000000"}, "leaseCounter": {"N": "1"}}
    dynamodb.put_item(TableName=name, Item=item, ConditionExpression="attribute_not_exists(leaseKey)")
    expect_error(
        "put it again", "ConditionalCheckFailedException", dynamodb.put_item,
        TableName=name, Item=item, ConditionExpression="attribute_not_exists(leaseKey)",
    )
    expect("the item", dynamodb.get_item(TableName=name, Key={"leaseKey": item["leaseKey"]}, ConsistentRead=True)["Item"], item)
    dynamodb.delete_table(TableName=name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinesis", required=True, metavar="URL", help="such as http://127.0.0.1:4567")
    parser.add_argument("--dynamodb", required=True, metavar="URL", help="such as http://127.0.0.1:8000")
    args = parser.parse_args()

    def client(service, url):
        return boto3.client(
            service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    kinesis, name = client("kinesis", args.kinesis), f"boto3-{RUN}"
    steps = [
        ("streams", lambda: steps_state.update(arn=check_streams(kinesis, name))),
        ("records", lambda: check_records(kinesis, name, steps_state["arn"])),
        ("resharding", lambda: check_resharding(kinesis, name, steps_state["arn"])),
        ("consumers", lambda: check_consumers(kinesis, name, steps_state["arn"], steps_state)),
        ("fan-out", lambda: check_fan_out(kinesis, name, steps_state["consumer"])),
        ("settings", lambda: check_settings(kinesis, name, steps_state["arn"])),
        ("retention", lambda: check_retention(kinesis, name)),
        ("errors", lambda: check_errors(kinesis, name)),
        ("delete", lambda: check_delete(kinesis, name)),
        ("dynamodb", lambda: check_dynamodb(client("dynamodb", args.dynamodb), name)),
    ]
    steps_state = {}
    for step, run in steps:
        try:
            run()
        except Mismatch as mismatch:
            sys.exit(f"FAILED {step}: {mismatch}")
        except Exception as error:  # What boto3 raises is a mismatch as well.
            sys.exit(f"FAILED {step}: {type(error).__name__}: {error}")
        print(f"ok {step}", flush=True)


if __name__ == "__main__":
    main()
