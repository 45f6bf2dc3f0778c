//! P1: every record that the service took was handed over.

use super::Evidence;
use crate::rig::PutRecord;

pub(super) fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for record in &evidence.put {
        if !evidence.history.delivered(record) {
            found.push(format!("P1: record {} of {} was put and never handed over", record.sequence_number, record.shard));
        }
    }
    // A batch must hold all records between its first and its last.
    for tenure in evidence.history.tenures() {
        for batch in &tenure.batches {
            let in_shard = |number| PutRecord { shard: tenure.shard.clone(), sequence_number: number };
            let from = evidence.put.partition_point(|put| *put < in_shard(batch.first));
            let to = evidence.put.partition_point(|put| *put <= in_shard(batch.last));
            if to - from != batch.records {
                found.push(format!(
                    "P1: {} got {} records of {} between {} and {}, where {} were put",
                    tenure.worker,
                    batch.records,
                    tenure.shard,
                    batch.first,
                    batch.last,
                    to - from
                ));
            }
        }
    }
    found
}
