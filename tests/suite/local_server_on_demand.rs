//! On-demand streams of the local server, by the AWS SDK: warm throughput, the distribution of records, and the account.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_kinesis::{
    Client,
    error::ProvideErrorMetadata,
    primitives::Blob,
    types::{
        MinimumThroughputBillingCommitmentInput, MinimumThroughputBillingCommitmentInputStatus as Wanted,
        MinimumThroughputBillingCommitmentOutput as Commitment, MinimumThroughputBillingCommitmentOutputStatus as Status,
        PutRecordsRequestEntry, RecordDistributionStrategy, StreamDescriptionSummary, StreamMode, StreamModeDetails,
    },
};
use shardkeeper::local::Limits;

use crate::rig::{Setup, make, setup};

async fn commit(sdk: &Client, status: Wanted) -> Commitment {
    let commitment = MinimumThroughputBillingCommitmentInput::builder().status(status).build().expect("complete");
    let updated = sdk.update_account_settings().minimum_throughput_billing_commitment(commitment).send().await.expect("updated");
    updated.minimum_throughput_billing_commitment.expect("present")
}

fn on_demand() -> StreamModeDetails {
    StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().expect("complete")
}

async fn summary(sdk: &Client, stream: &str) -> StreamDescriptionSummary {
    let described = sdk.describe_stream_summary().stream_name(stream).send().await.expect("described");
    described.stream_description_summary.expect("present")
}

async fn warm(sdk: &Client, stream: &str) -> Option<(i32, i32)> {
    let warm = summary(sdk, stream).await.warm_throughput?;
    Some((warm.target_mibps.expect("present"), warm.current_mibps.expect("present")))
}

#[tokio::test]
async fn an_account_is_committed_for_a_day_at_least() {
    let Setup { server: _server, sdk, clock, .. } = setup(Limits::enforced()).await;
    let begun = commit(&sdk, Wanted::Enabled).await;
    let (started, earliest) = (begun.started_at.expect("present"), begun.earliest_allowed_end_at.expect("present"));
    assert_eq!((begun.status, earliest.secs() - started.secs()), (Status::Enabled, 24 * 3600));
    let ending = commit(&sdk, Wanted::Disabled).await;
    assert_eq!((ending.status, ending.ended_at), (Status::EnabledUntilEarliestAllowedEnd, None));
    clock.advance(Duration::from_secs(24 * 3600));
    let ended = sdk.describe_account_settings().send().await.expect("described").minimum_throughput_billing_commitment.expect("present");
    assert_eq!((ended.status, ended.started_at, ended.ended_at), (Status::Disabled, Some(started), Some(earliest)));
    let refused = sdk.update_account_settings().minimum_throughput_billing_commitment(
        MinimumThroughputBillingCommitmentInput::builder().status(Wanted::from("SOMETIMES")).build().expect("complete"),
    );
    assert_eq!(refused.send().await.expect_err("no such status").code(), Some("ValidationException"));
}

#[tokio::test]
async fn an_on_demand_stream_has_shards_for_its_warm_throughput() {
    let Setup { server: _server, sdk, .. } = setup(Limits::enforced()).await;
    make(&sdk, "clicks", 1).await;
    let create = |mibps| sdk.create_stream().stream_name("warm").stream_mode_details(on_demand()).warm_throughput_mibps(mibps).send();
    assert_eq!(create(8).await.expect_err("not committed").code(), Some("InvalidArgumentException"));
    commit(&sdk, Wanted::Enabled).await;
    create(8).await.expect("created");
    assert_eq!((warm(&sdk, "warm").await, warm(&sdk, "clicks").await), (Some((8, 8)), None));

    let update = |stream, mibps| sdk.update_stream_warm_throughput().stream_name(stream).warm_throughput_mibps(mibps).send();
    let updated = update("warm", 20).await.expect("updated");
    assert_eq!((updated.stream_name.as_deref(), updated.warm_throughput.and_then(|w| w.target_mibps)), (Some("warm"), Some(20)));
    assert_eq!((warm(&sdk, "warm").await, summary(&sdk, "warm").await.open_shard_count), (Some((20, 20)), 20));
    for (stream, mibps, code) in [
        ("clicks", 8, "InvalidArgumentException"),
        ("warm", -1, "ValidationException"),
        ("warm", 10_241, "LimitExceededException"),
        ("none", 8, "ResourceNotFoundException"),
    ] {
        assert_eq!(update(stream, mibps).await.expect_err("refused").code(), Some(code), "{stream} {mibps}");
    }
    let arn = summary(&sdk, "clicks").await.stream_arn;
    let to_on_demand = sdk.update_stream_mode().stream_arn(arn).stream_mode_details(on_demand()).warm_throughput_mibps(6);
    to_on_demand.send().await.expect("changed");
    assert_eq!(warm(&sdk, "clicks").await, Some((6, 6)));
}

#[tokio::test]
async fn records_of_a_stream_that_distributes_them_need_no_key() {
    let Setup { server: _server, sdk, .. } = setup(Limits::enforced()).await;
    let provisioned = make(&sdk, "clicks", 1).await;
    sdk.create_stream().stream_name("auto").stream_mode_details(on_demand()).send().await.expect("created");
    let before = summary(&sdk, "auto").await;
    assert_eq!(before.record_distribution_strategy, Some(RecordDistributionStrategy::UserPartitionKey));
    let set = |arn: &str, strategy: RecordDistributionStrategy| {
        sdk.update_stream_record_distribution_strategy().stream_arn(arn).record_distribution_strategy(strategy).send()
    };
    let put = || sdk.put_record().stream_name("auto").data(Blob::new("v")).send();
    assert_eq!(put().await.expect_err("a key is missing").code(), Some("ValidationException"));
    assert_eq!(
        set(&provisioned, RecordDistributionStrategy::Auto).await.expect_err("provisioned").code(),
        Some("InvalidArgumentException")
    );
    assert_eq!(set(&before.stream_arn, "SOMEHOW".into()).await.expect_err("unknown").code(), Some("ValidationException"));
    set(&before.stream_arn, RecordDistributionStrategy::Auto).await.expect("changed");
    assert_eq!(summary(&sdk, "auto").await.record_distribution_strategy, Some(RecordDistributionStrategy::Auto));

    let mut shards = BTreeSet::from([put().await.expect("put").shard_id]);
    let entry = || PutRecordsRequestEntry::builder().data(Blob::new("v")).build().expect("complete");
    let entries = (0..3).map(|_| entry()).collect();
    let outcome = sdk.put_records().stream_name("auto").set_records(Some(entries)).send().await.expect("put");
    assert_eq!(outcome.failed_record_count, Some(0));
    shards.extend(outcome.records.into_iter().filter_map(|record| record.shard_id));
    assert_eq!(shards.len(), 4);
}
