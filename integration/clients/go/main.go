// Checks the local Kinesis and DynamoDB with the AWS SDK for Go v2.
//
//	shardkeeper local --kinesis-port 4567 --dynamodb-port 8000
//	go run . --kinesis http://127.0.0.1:4567 --dynamodb http://127.0.0.1:8000
//
// Ends at the first mismatch with exit code 1 and a line that says what was expected and what came.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const shard = "shardId-000000000000"

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "MISMATCH "+format+"\n", values...)
	os.Exit(1)
}

func expect(what string, got, wanted any) {
	if !reflect.DeepEqual(got, wanted) {
		fail("%s: expected %v, got %v", what, wanted, got)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return value
}

func texts(records []types.Record) []string {
	all := []string{}
	for _, record := range records {
		all = append(all, string(record.Data))
	}
	return all
}

func checkPolling(ctx context.Context, client *kinesis.Client, name string) string {
	must(client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(1)}))
	summary := must(client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})).StreamDescriptionSummary
	expect("status", summary.StreamStatus, types.StreamStatusActive)
	entries := []types.PutRecordsRequestEntry{}
	for _, text := range []string{"a", "b", "c"} {
		entries = append(entries, types.PutRecordsRequestEntry{Data: []byte(text), PartitionKey: aws.String("k")})
	}
	put := must(client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &name, Records: entries}))
	expect("failed records", *put.FailedRecordCount, int32(0))
	iterator := must(client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamARN: summary.StreamARN, ShardId: aws.String(shard), ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	}))
	page := must(client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator}))
	expect("records", texts(page.Records), []string{"a", "b", "c"})
	_, err := client.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String(name + "-x")})
	var missing *types.ResourceNotFoundException
	expect("a missing stream is not found", errors.As(err, &missing), true)
	return *summary.StreamARN
}

func checkFanOut(ctx context.Context, client *kinesis.Client, name, arn string) {
	registered := must(client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &arn, ConsumerName: aws.String("app")}))
	consumer := registered.Consumer.ConsumerARN
	input := kinesis.SubscribeToShardInput{
		ConsumerARN: consumer, ShardId: aws.String(shard), StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon},
	}
	stream := must(client.SubscribeToShard(ctx, &input)).GetStream()
	_, err := client.SubscribeToShard(ctx, &input)
	var inUse *types.ResourceInUseException
	expect("a second subscription at once is refused", errors.As(err, &inUse), true)
	got := []string{}
	var last types.SubscribeToShardEvent
	for message := range stream.Events() {
		event := message.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
		got = append(got, texts(event.Records)...)
		last = event
		if len(got) == 3 {
			must(client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &name, Data: []byte("d"), PartitionKey: aws.String("k")}))
		} else if len(got) == 4 && event.ChildShards == nil {
			half := new(big.Int).Lsh(big.NewInt(1), 127).String()
			must(client.SplitShard(ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard), NewStartingHashKey: &half}))
		}
	}
	if err := stream.Err(); err != nil {
		fail("the subscription ended with %v", err)
	}
	expect("pushed records", got, []string{"a", "b", "c", "d"})
	expect("children", len(last.ChildShards), 2)
	expect("no continuation number at the end", last.ContinuationSequenceNumber == nil, true)
	must(client.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: consumer}))
}

func checkDynamoDb(ctx context.Context, client *dynamodb.Client, name string) {
	must(client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: dynamotypes.BillingModePayPerRequest,
		AttributeDefinitions: []dynamotypes.AttributeDefinition{{AttributeName: aws.String("leaseKey"), AttributeType: dynamotypes.ScalarAttributeTypeS}},
		KeySchema:            []dynamotypes.KeySchemaElement{{AttributeName: aws.String("leaseKey"), KeyType: dynamotypes.KeyTypeHash}},
	}))
	put := dynamodb.PutItemInput{
		TableName: &name, Item: map[string]dynamotypes.AttributeValue{"leaseKey": &dynamotypes.AttributeValueMemberS{Value: "a"}},
		ConditionExpression: aws.String("attribute_not_exists(leaseKey)"),
	}
	must(client.PutItem(ctx, &put))
	_, err := client.PutItem(ctx, &put)
	var lost *dynamotypes.ConditionalCheckFailedException
	expect("a conditional put loses", errors.As(err, &lost), true)
	must(client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name}))
}

func main() {
	kinesisURL := flag.String("kinesis", "", "endpoint of Kinesis")
	dynamodbURL := flag.String("dynamodb", "", "endpoint of DynamoDB")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	secret := credentials.NewStaticCredentialsProvider("local", "local", "")
	name := fmt.Sprintf("go-%d", time.Now().UnixNano())
	streams := kinesis.New(kinesis.Options{Region: "us-east-1", Credentials: secret, BaseEndpoint: kinesisURL})
	arn := checkPolling(ctx, streams, name)
	checkFanOut(ctx, streams, name, arn)
	must(streams.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name}))
	checkDynamoDb(ctx, dynamodb.New(dynamodb.Options{Region: "us-east-1", Credentials: secret, BaseEndpoint: dynamodbURL}), name)
	fmt.Println("ok")
}
