//! SplitShard, MergeShards and UpdateShardCount.

use std::time::Duration;

use super::{
    Model, RatedCall, ServiceError, ServiceErrorCode, StreamMode, UpdatedShardCount,
    shard::ShardFacts,
    stream::{Context, Lifecycle, Stream, shard_index},
};
use crate::{
    stream::StreamReference,
    types::{HashKeyRange, ShardId, Timestamp},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A change of shards that is under way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Reshape {
    /// The shard into two, the second beginning at the key (in decimal, since JSON numbers end at 64 bits).
    Split { shard: u32, at: String },
    /// Neighbours into one; the first is the parent, the second the adjacent parent.
    Merge { first: u32, second: u32 },
    /// To this number of open shards.
    Scale { target: u32 },
}

impl Model {
    /// `SplitShard`: closes the shard and makes two children, the second beginning at `new_starting_hash_key`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is changing, `InvalidArgument` for a closed shard or a key
    /// not inside it, `LimitExceeded`, `Validation` for an on-demand stream.
    pub fn split_shard(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        shard: &ShardId,
        new_starting_hash_key: u128,
    ) -> Result<(), ServiceError> {
        self.count(now, RatedCall::SplitShard, Some(&stream.name()))?;
        let in_use = self.open_shards();
        self.on(now, stream, |stream, cx| {
            stream.require_provisioned("SplitShard")?;
            let facts = stream.reshardable(cx, shard)?;
            let (key, range) = (new_starting_hash_key, facts.range);
            if key <= range.start().saturating_add(1) || key >= range.end() {
                return Err(ServiceError::invalid(format!(
                    "NewStartingHashKey {key} used in SplitShard() on shard {shard} in stream {} under account {} is not both greater than \
                     one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                    stream.facts.name,
                    cx.config.account_id,
                    range.start(),
                    range.end()
                )));
            }
            cx.check_shard_limit(in_use, 1)?;
            stream.begin(cx, Reshape::Split { shard: facts.index, at: key.to_string() })
        })
    }

    /// `MergeShards`: closes two neighbours and makes one child of both.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is changing, `InvalidArgument` for closed shards or such as
    /// are not neighbours, `LimitExceeded` above the rate of calls, `Validation` for an on-demand stream.
    pub fn merge_shards(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        shard: &ShardId,
        adjacent: &ShardId,
    ) -> Result<(), ServiceError> {
        self.count(now, RatedCall::MergeShards, Some(&stream.name()))?;
        self.on(now, stream, |stream, cx| {
            stream.require_provisioned("MergeShards")?;
            let (first, second) = (stream.reshardable(cx, shard)?, stream.reshardable(cx, adjacent)?);
            if union(first.range, second.range).is_none() {
                return Err(ServiceError::invalid(format!(
                    "Shards {shard} and {adjacent} in stream {} under account {} are not an adjacent pair of shards eligible for merging",
                    stream.facts.name, cx.config.account_id
                )));
            }
            stream.begin(cx, Reshape::Merge { first: first.index, second: second.index })
        })
    }

    /// `UpdateShardCount` with uniform scaling, done as the service does it: to grow, every shard is split in two and
    /// neighbours are merged until the target is reached; to shrink, neighbours are merged. Every new shard thus has one
    /// or two parents, and some live for a moment only.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is changing, `LimitExceeded` beyond double, below half, above
    /// 10,000 shards, at the eleventh call of a day or above the rate of calls, `Validation` for an on-demand stream or a target of 0.
    pub fn update_shard_count(&mut self, now: Timestamp, stream: &StreamReference, target: u32) -> Result<UpdatedShardCount, ServiceError> {
        if target == 0 {
            return Err(ServiceError::validation(target, "targetShardCount", "Member must have value greater than or equal to 1"));
        }
        self.count(now, RatedCall::UpdateShardCount, Some(&stream.name()))?;
        let in_use = self.open_shards();
        self.on(now, stream, |stream, cx| {
            stream.require_provisioned("UpdateShardCount")?;
            stream.require_active(cx)?;
            let current = stream.open_count();
            let limit = |message: String| ServiceError::new(ServiceErrorCode::LimitExceeded, message);
            let counts = format!("Current open shard count: {current}, Target shard count: {target}");
            if u64::from(target) > u64::from(current) * 2 {
                return Err(limit(format!("UpdateShardCount cannot scale up over double your current open shard count. {counts}")));
            }
            if u64::from(target) * 2 < u64::from(current) {
                return Err(limit(format!("UpdateShardCount cannot scale down below half your current open shard count. {counts}")));
            }
            if let Some(most) = cx.config.limits.shards_per_stream
                && (target > most || (current > most && target == most))
            {
                return Err(limit(format!("UpdateShardCount cannot scale a stream to more than {most} shards. {counts}")));
            }
            cx.check_shard_limit(in_use, target.saturating_sub(current))?;
            stream.facts.scalings.retain(|at| now.since(*at) < DAY);
            if let Some(most) = cx.config.limits.update_shard_count_calls_per_day
                && stream.facts.scalings.len() >= most as usize
            {
                return Err(limit(format!(
                    "UpdateShardCount can be called at most {most} times in 24 hours for stream {} under account {}.",
                    stream.facts.name, cx.config.account_id
                )));
            }
            stream.facts.scalings.push(now);
            stream.begin(cx, Reshape::Scale { target })?;
            Ok(UpdatedShardCount {
                stream_name: stream.facts.name.clone(),
                stream_arn: stream.facts.arn.clone(),
                current_shard_count: current,
                target_shard_count: target,
            })
        })
    }
}

/// The range of both, when one follows the other.
fn union(a: HashKeyRange, b: HashKeyRange) -> Option<HashKeyRange> {
    let (low, high) = if a.start() <= b.start() { (a, b) } else { (b, a) };
    (low.end().checked_add(1) == Some(high.start())).then(|| HashKeyRange::new(low.start(), high.end()).expect("low comes first"))
}

impl Stream {
    fn require_provisioned(&self, operation: &str) -> Result<(), ServiceError> {
        match self.facts.mode {
            StreamMode::Provisioned => Ok(()),
            StreamMode::OnDemand => Err(ServiceError::new(
                ServiceErrorCode::Validation,
                format!("{operation} is only supported for data streams with the provisioned capacity mode."),
            )),
        }
    }

    /// The facts of an open shard of an active stream.
    fn reshardable(&self, cx: &Context<'_>, id: &ShardId) -> Result<ShardFacts, ServiceError> {
        let (name, account) = (&self.facts.name, &cx.config.account_id);
        let facts = shard_index(id).and_then(|index| self.shards.get(&index)).map(|shard| &shard.facts).ok_or_else(|| {
            let message = format!("Could not find shard {id} in stream {name} under account {account}.");
            ServiceError::new(ServiceErrorCode::ResourceNotFound, message)
        })?;
        self.require_active(cx)?;
        if !facts.is_open() {
            return Err(ServiceError::invalid(format!(
                "Shard {id} in stream {name} under account {account} has already been merged or split, and thus is not eligible for \
                 merging or splitting."
            )));
        }
        Ok(facts.clone())
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>, change: Reshape) -> Result<(), ServiceError> {
        self.facts.lifecycle = Lifecycle::Updating { until: cx.now.plus(cx.config.delays.update), change };
        self.note(cx);
        self.settle(cx);
        Ok(())
    }

    /// Does what was begun, as of `at`.
    pub(super) fn reshape(&mut self, cx: &mut Context<'_>, change: &Reshape, at: Timestamp) {
        match change {
            Reshape::Split { shard, at: key } => {
                let key = key.parse().expect("written as a number");
                self.split(cx, *shard, key, at);
            }
            Reshape::Merge { first, second } => {
                self.merge(cx, *first, *second, at);
            }
            Reshape::Scale { target } => self.scale_in_steps(cx, *target as usize, at),
        }
    }

    fn range(&self, index: u32) -> HashKeyRange {
        self.shards[&index].facts.range
    }

    fn split(&mut self, cx: &mut Context<'_>, shard: u32, key: u128, at: Timestamp) {
        let range = self.range(shard);
        self.close_shard(cx, shard, at);
        for (start, end) in [(range.start(), key - 1), (key, range.end())] {
            let part = HashKeyRange::new(start, end).expect("the key lies inside the range");
            self.make_shard(cx, vec![shard], part, at);
        }
    }

    fn merge(&mut self, cx: &mut Context<'_>, first: u32, second: u32, at: Timestamp) {
        let whole = union(self.range(first), self.range(second)).expect("only neighbours are merged");
        self.close_shard(cx, first, at);
        self.close_shard(cx, second, at);
        self.make_shard(cx, vec![first, second], whole, at);
    }

    /// Doubles or halves until the target is near.
    fn scale_in_steps(&mut self, cx: &mut Context<'_>, target: usize, at: Timestamp) {
        loop {
            let open = self.open.len();
            self.scale(cx, target.clamp(open.div_ceil(2), open * 2), at);
            if self.open.len() == open {
                return;
            }
        }
    }

    fn scale(&mut self, cx: &mut Context<'_>, target: usize, at: Timestamp) {
        if target > self.open.len() {
            let shards: Vec<u32> = self.open.values().copied().collect();
            for shard in shards {
                let range = self.range(shard);
                // A shard of one key cannot be halved.
                if range.start() < range.end() {
                    self.split(cx, shard, range.start() + (range.end() - range.start()) / 2 + 1, at);
                }
            }
        }
        // Deal the shards, in the order of their keys, to `target` groups of one or two, as evenly as can be.
        let shards: Vec<u32> = self.open.values().copied().collect();
        for group in 0..target {
            let (from, to) = (group * shards.len() / target, (group + 1) * shards.len() / target);
            if let [first, second] = shards[from..to] {
                self.merge(cx, first, second, at);
            }
        }
    }
}

impl Context<'_> {
    /// Refuses to go beyond the account's number of open shards.
    pub(super) fn check_shard_limit(&self, in_use: u32, more: u32) -> Result<(), ServiceError> {
        match self.config.limits.shards_per_account {
            Some(limit) if u64::from(in_use) + u64::from(more) > u64::from(limit) => {
                let message = format!(
                    "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {in_use}. \
                     Limit: {limit}. Number of additional shards that would have resulted from this request: {more}. Refer to the AWS \
                     Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and \
                     how to request higher limits.",
                    self.config.account_id, self.config.region
                );
                Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
            }
            Some(_) | None => Ok(()),
        }
    }
}
