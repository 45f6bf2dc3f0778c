//! Settings of the account.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{fault::Fault, member::required, protocol::Moment},
    Call,
};
use crate::local::ThroughputCommitment;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CommitmentInput {
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountSettingsInput {
    minimum_throughput_billing_commitment: Option<CommitmentInput>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Commitment {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest_allowed_end_at: Option<Moment>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccountSettingsOutput {
    minimum_throughput_billing_commitment: Commitment,
}

fn output(call: &Call<'_>, commitment: ThroughputCommitment) -> Result<Bytes, Fault> {
    call.output(&AccountSettingsOutput {
        minimum_throughput_billing_commitment: Commitment {
            status: commitment.status.as_str(),
            started_at: commitment.started.map(Moment),
            ended_at: commitment.ended.map(Moment),
            earliest_allowed_end_at: commitment.earliest_allowed_end.map(Moment),
        },
    })
}

pub(super) fn describe_account_settings(call: &Call<'_>) -> Result<Bytes, Fault> {
    output(call, call.kinesis.describe_account_settings()?)
}

pub(super) fn update_account_settings(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: AccountSettingsInput = call.input()?;
    let member = "minimumThroughputBillingCommitment";
    let status = required(input.minimum_throughput_billing_commitment, member)?.status;
    let committed = match required(status, "minimumThroughputBillingCommitment.status")?.as_str() {
        "ENABLED" => true,
        "DISABLED" => false,
        other => {
            let constraint = "Member must satisfy enum value set: [ENABLED, DISABLED]";
            return Err(Fault::validation(other, "minimumThroughputBillingCommitment.status", constraint));
        }
    };
    output(call, call.kinesis.update_account_settings(committed)?)
}
