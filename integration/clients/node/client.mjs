// Checks the local Kinesis and DynamoDB with the AWS SDK for JavaScript v3, which speaks clear-text HTTP/2 to Kinesis.
//
//     npm install
//     shardkeeper local --kinesis-port 4567 --dynamodb-port 8000
//     node client.mjs --kinesis http://127.0.0.1:4567 --dynamodb http://127.0.0.1:8000
//
// Ends at the first mismatch with exit code 1 and a line that says what was expected and what came.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { isDeepStrictEqual } from "node:util";

import { DynamoDB } from "@aws-sdk/client-dynamodb";
import { Kinesis } from "@aws-sdk/client-kinesis";

const { values } = parseArgs({ options: { kinesis: { type: "string" }, dynamodb: { type: "string" } } });
const common = { region: "us-east-1", credentials: { accessKeyId: "local", secretAccessKey: "local" } };
const kinesis = new Kinesis({ ...common, endpoint: values.kinesis });
const dynamodb = new DynamoDB({ ...common, endpoint: values.dynamodb });
const name = `node-${randomUUID().slice(0, 8)}`;
const shard = (n) => `shardId-${String(n).padStart(12, "0")}`;

function expect(what, got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) {
    throw new Error(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`);
  }
}

async function expectError(what, code, call) {
  let got = "success";
  try {
    await call();
  } catch (error) {
    got = error.name;
  }
  expect(what, got, code);
}

const text = (record) => Buffer.from(record.Data).toString();

async function checkPolling() {
  await kinesis.createStream({ StreamName: name, ShardCount: 1 });
  const { StreamDescriptionSummary: summary } = await kinesis.describeStreamSummary({ StreamName: name });
  expect("status", summary.StreamStatus, "ACTIVE");
  const before = Date.now();
  const put = await kinesis.putRecords({
    StreamName: name,
    Records: ["a", "b", "c"].map((data) => ({ Data: Buffer.from(data), PartitionKey: "k" })),
  });
  expect("failed records", put.FailedRecordCount, 0);
  const { ShardIterator } = await kinesis.getShardIterator({
    StreamARN: summary.StreamARN,
    ShardId: shard(0),
    ShardIteratorType: "TRIM_HORIZON",
  });
  const page = await kinesis.getRecords({ ShardIterator });
  expect("records", page.Records.map(text), ["a", "b", "c"]);
  expect("arrival is a moment", Math.abs(page.Records[0].ApproximateArrivalTimestamp.getTime() - before) < 60_000, true);
  expect("behind", page.MillisBehindLatest, 0);
  await expectError("missing stream", "ResourceNotFoundException", () => kinesis.describeStream({ StreamName: `${name}-x` }));
  await expectError("taken name", "ResourceInUseException", () => kinesis.createStream({ StreamName: name, ShardCount: 1 }));
  return summary.StreamARN;
}

async function checkFanOut(StreamARN) {
  const { Consumer } = await kinesis.registerStreamConsumer({ StreamARN, ConsumerName: "app" });
  const { ConsumerDescription } = await kinesis.describeStreamConsumer({ ConsumerARN: Consumer.ConsumerARN });
  expect("consumer status", ConsumerDescription.ConsumerStatus, "ACTIVE");
  const subscribe = () =>
    kinesis.subscribeToShard({ ConsumerARN: Consumer.ConsumerARN, ShardId: shard(0), StartingPosition: { Type: "TRIM_HORIZON" } });
  const { EventStream } = await subscribe();
  await expectError("a second subscription at once", "ResourceInUseException", subscribe);
  const got = [];
  let last;
  for await (const { SubscribeToShardEvent: event } of EventStream) {
    if (event === undefined) continue;
    got.push(...event.Records.map(text));
    last = event;
    if (got.length === 3) {
      await kinesis.putRecord({ StreamName: name, Data: Buffer.from("d"), PartitionKey: "k" });
    } else if (got.length === 4 && event.ChildShards === undefined) {
      await kinesis.splitShard({ StreamARN, ShardToSplit: shard(0), NewStartingHashKey: String(2n ** 127n) });
    }
  }
  expect("pushed records", got, ["a", "b", "c", "d"]);
  expect("children", last.ChildShards.map((child) => child.ShardId), [shard(1), shard(2)]);
  expect("continuation number at the end", last.ContinuationSequenceNumber, undefined);
  await kinesis.deregisterStreamConsumer({ ConsumerARN: Consumer.ConsumerARN });
  const { Consumers } = await kinesis.listStreamConsumers({ StreamARN });
  expect("consumers", Consumers, []);
}

async function checkSettings(StreamARN) {
  await kinesis.addTagsToStream({ StreamName: name, Tags: { team: "x" } });
  expect("tags", (await kinesis.listTagsForResource({ ResourceARN: StreamARN })).Tags, [{ Key: "team", Value: "x" }]);
  await kinesis.startStreamEncryption({ StreamName: name, EncryptionType: "KMS", KeyId: "alias/aws/kinesis" });
  const put = await kinesis.putRecord({ StreamName: name, Data: Buffer.from("e"), PartitionKey: "k" });
  expect("encryption", put.EncryptionType, "KMS");
  const limits = await kinesis.describeLimits({});
  expect("limits", typeof limits.ShardLimit, "number");
}

async function checkDynamoDb() {
  const table = { TableName: name };
  await dynamodb.createTable({
    ...table,
    BillingMode: "PAY_PER_REQUEST",
    AttributeDefinitions: [{ AttributeName: "leaseKey", AttributeType: "S" }],
    KeySchema: [{ AttributeName: "leaseKey", KeyType: "HASH" }],
  });
  const put = () =>
    dynamodb.putItem({ ...table, Item: { leaseKey: { S: "a" } }, ConditionExpression: "attribute_not_exists(leaseKey)" });
  await put();
  await expectError("a conditional put that loses", "ConditionalCheckFailedException", put);
  await dynamodb.deleteTable(table);
}

try {
  const arn = await checkPolling();
  await checkFanOut(arn);
  await checkSettings(arn);
  await kinesis.deleteStream({ StreamName: name, EnforceConsumerDeletion: true });
  await checkDynamoDb();
  console.log("ok");
} catch (error) {
  console.error(`MISMATCH ${error.stack}`);
  process.exitCode = 1;
} finally {
  kinesis.destroy();
  dynamodb.destroy();
}
