//! Keeps the leases of one stream complete: the async shell around the pure decisions of this folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::try_join_all;
use tokio::time::Instant;

use super::{
    audit::{Audit, audit, uncovered},
    cleanup::deletable,
    discovery::list_all,
    lineage::{BEGINNING, Findings, Start, compare, late_starts},
};
use crate::{
    clock::SharedClock,
    error::{Error, ErrorKind, Result},
    lease::{Lease, LeaseTable, TableScan, WriteId, WriteOutcome},
    random::Randomness,
    retrieval::polling::earlier,
    retry::RetryConfig,
    stream::{ShardFilter, ShardPosition, StreamClient, StreamDescription, StreamReference, StreamStatus},
    types::{Checkpoint, HashKeyRange, InitialPosition, Shard, ShardId, StreamArn, StreamIdentifier, Timestamp},
};

/// Lease rows that are created at once, so that a stream of a thousand shards starts in seconds and a table with
/// little capacity is not flooded.
const PARALLEL_WRITES: usize = 32;
/// Looks at a listing whose open shards leave a gap, as KCL's `HierarchicalShardSyncer` takes them.
const LISTING_ATTEMPTS: u32 = 3;
/// How far the clock that chose a moment to start at may run ahead of this machine's. A moment further ahead is a
/// mistake, which is told.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Creation times of one stream may come out this much apart, by rounding on the way; a stream cannot be deleted and
/// made again that fast.
const SAME_CREATION: Duration = Duration::from_secs(1);

/// Attempts to end the lease of a shard past retention, whose row changes meanwhile.
const GIVE_UP_ATTEMPTS: u32 = 5;

/// How long the lease of a finished shard stays when nobody needs it any more. A create request for it that was delayed
/// on its way, and repeated meanwhile, would make the row anew, and the shard would be read once more; so the row outlives
/// any request. As KCL's `completedLeaseCleanupIntervalMillis`.
const FINISHED_KEPT: Duration = Duration::from_secs(300);

/// What a sync has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SyncReport {
    /// Leases that it made.
    pub(crate) created: usize,
    /// Shards that the stream has in retention.
    pub(crate) listed: usize,
    /// Unfinished leases whose shards are past retention: what was not read of them is lost.
    pub(crate) expired: Vec<ShardId>,
}

#[derive(Debug, Default)]
struct State {
    /// What the last audit found.
    found: Audit,
    /// Findings that a sync has dealt with as far as it could.
    settled: Audit,
    /// Ended shards that are past retention.
    trimmed: BTreeSet<ShardId>,
    /// Children by parent, as last listed.
    children: BTreeMap<ShardId, BTreeSet<ShardId>>,
    /// Since when leases are known to be needed no more.
    deletable_since: BTreeMap<ShardId, Instant>,
    /// Where the readers of this stream began, should all of its rows be lost.
    begun: Option<Start>,
}

/// Shard synchronisation of one stream. Every act is idempotent and conditional: any number of workers may do it at
/// the same time, though one is enough.
#[derive(Debug)]
pub(crate) struct ShardSync {
    client: Arc<dyn StreamClient>,
    stream: StreamReference,
    identifier: StreamIdentifier,
    initial: InitialPosition,
    clock: SharedClock,
    random: Randomness,
    retry: RetryConfig,
    state: Mutex<State>,
}

impl ShardSync {
    /// Does not call the service. `initial` counts only while the stream has no leases.
    pub(crate) fn new(
        client: Arc<dyn StreamClient>,
        stream: StreamReference,
        identifier: StreamIdentifier,
        initial: InitialPosition,
        clock: SharedClock,
        random: Randomness,
    ) -> Self {
        let retry = RetryConfig { max_attempts: Some(6), min_delay: Duration::from_millis(200), max_delay: Duration::from_secs(3) };
        Self { client, stream, identifier, initial, clock, random, retry, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leases of this stream.
    fn own<'a>(&self, scan: &'a TableScan) -> Vec<&'a Lease> {
        let stream = match &self.identifier {
            StreamIdentifier::Single(_) => None,
            multi @ StreamIdentifier::Multi { .. } => Some(multi),
        };
        scan.leases.iter().filter(|lease| lease.stream.as_ref() == stream).collect()
    }

    /// Whether the rows of two scans in a row show a hole that no sync has looked at. Calls nothing. Each finding is
    /// reported once, so that a hole that cannot be closed yet does not cause a listing per scan.
    pub(crate) fn needs_repair(&self, scan: &TableScan) -> bool {
        let found = audit(&self.own(scan));
        let mut state = self.state();
        let fresh = found.confirmed_by(&state.found).without(&state.settled);
        if !fresh.is_clean() {
            tracing::warn!(
                stream = %self.identifier, holes = ?fresh.holes, waiting = ?fresh.doubtful,
                "the lease table has a hole: comparing it with the stream's shards"
            );
            state.settled.holes.extend(&fresh.holes);
            state.settled.doubtful.extend(fresh.doubtful.iter().cloned());
        }
        state.found = found;
        !fresh.is_clean()
    }

    /// Compares the stream's shards with the rows of `scan`, which was read before this call, and makes the leases
    /// that are missing. Costs one DescribeStreamSummary and one listing; two at the first start.
    ///
    /// # Errors
    /// `Mismatch` when the leases belong to an earlier stream of the same name. `NotFound`, `AccessDenied`.
    /// `InvalidInput` when reading is to begin in the future. Retryable kinds when the attempts are used up.
    ///
    /// # Cancel safety
    /// Leases made so far stay; the next sync makes the rest.
    pub(crate) async fn sync(&self, table: &dyn LeaseTable, scan: &TableScan) -> Result<SyncReport> {
        let description = self.describe().await?;
        let leases = self.own(scan);
        self.refuse_other_stream(table, &leases, &description)?;
        if leases.is_empty() {
            self.refuse_other_names(table, scan)?;
        }
        if leases.is_empty() && self.state().begun.is_none() {
            return self.first_start(table, &description).await;
        }
        let listed = self.list(&ShardFilter::All).await?;
        self.repair(table, &leases, &listed, &description).await
    }

    /// Deletes the leases of finished shards that nobody has needed for five minutes, and returns how many.
    ///
    /// # Errors
    /// Those of the table.
    pub(crate) async fn clean_up(&self, table: &dyn LeaseTable, scan: &TableScan) -> Result<usize> {
        let leases = self.own(scan);
        let gone = {
            let now = Instant::now();
            let state = &mut *self.state();
            let mut gone = deletable(&leases, &state.children, &state.trimmed);
            let known = std::mem::take(&mut state.deletable_since);
            let since = |lease: &&Lease| (lease.shard_id.clone(), known.get(&lease.shard_id).copied().unwrap_or(now));
            state.deletable_since = gone.iter().map(since).collect();
            gone.retain(|lease| {
                state.deletable_since.get(&lease.shard_id).is_some_and(|since| now.duration_since(*since) >= FINISHED_KEPT)
            });
            gone
        };
        let mut deleted = 0;
        for batch in gone.chunks(PARALLEL_WRITES) {
            let outcomes = try_join_all(batch.iter().map(|lease| table.delete_lease(lease))).await?;
            // A row that has changed in the meantime is looked at again with the next scan.
            deleted += outcomes.iter().filter(|outcome| **outcome == WriteOutcome::Applied).count();
        }
        if deleted > 0 {
            tracing::info!(stream = %self.identifier, deleted, "deleted leases of finished shards");
        }
        Ok(deleted)
    }

    async fn describe(&self) -> Result<StreamDescription> {
        let mut backoff = self.retry.backoff(&self.random);
        loop {
            let error = match self.client.describe_stream(&self.stream).await {
                Ok(description) if description.status == StreamStatus::Creating => {
                    Error::new(ErrorKind::ResourceInUse, format!("stream {} is still being created", self.stream))
                }
                Ok(description) => return Ok(description),
                Err(error) => error,
            };
            if !error.is_retryable() || !backoff.wait().await {
                return Err(error.context(format_args!("cannot describe stream {}", self.stream)));
            }
        }
    }

    /// Shards of another stream, or of one made anew under the same name, have the same ids: continuing would skip records.
    fn refuse_other_stream(&self, table: &dyn LeaseTable, leases: &[&Lease], description: &StreamDescription) -> Result<()> {
        leases.iter().try_for_each(|lease| refuse_stream_of(lease, &table, &description.arn))?;
        let differs = |lease: &&&Lease| {
            lease.stream_created.is_some_and(|then| then.since(description.created).max(description.created.since(then)) >= SAME_CREATION)
        };
        let Some((lease, then)) = leases.iter().find(differs).and_then(|lease| Some((lease, lease.stream_created?))) else {
            return Ok(());
        };
        let (stream, now) = (&self.stream, description.created);
        let message = if lease.stream_arn.is_some() {
            format!(
                "stream {stream} was deleted and made again: the leases in {table} are for the one created at {then}, the one there \
                 now was created at {now}; to read it from its beginning, use another application name or delete these leases"
            )
        } else {
            format!(
                "the leases in {table} are for a stream created at {then}, and stream {stream} was created at {now}: they belong to \
                 another stream, or to an earlier one of this name; use another application name"
            )
        };
        Err(Error::new(ErrorKind::Mismatch, message))
    }

    /// Refuses to begin anew beside unfinished leases of this stream under another name: those of a worker of one
    /// stream when there are many now, of many when there is one now, or of an earlier stream with its name.
    fn refuse_other_names(&self, table: &dyn LeaseTable, scan: &TableScan) -> Result<()> {
        let same_stream = |lease: &&Lease| {
            !lease.checkpoint.is_shard_end()
                && match (&self.identifier, &lease.stream) {
                    (StreamIdentifier::Single(name), Some(other)) => other.name() == name,
                    (StreamIdentifier::Multi { .. }, None) => true,
                    (
                        StreamIdentifier::Multi { account_id, name, .. },
                        Some(StreamIdentifier::Multi { account_id: account, name: other, .. }),
                    ) => account_id == account && name == other,
                    (StreamIdentifier::Single(_), None) | (StreamIdentifier::Multi { .. }, Some(StreamIdentifier::Single(_))) => false,
                }
        };
        let Some(lease) = scan.leases.iter().find(same_stream) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "{table} holds lease {} while stream {} would begin anew as {}: the stream was re-created, or the application went \
                 from one stream to many or back; use another application name, or delete the old leases if their progress is not needed",
                lease.key, self.stream, self.identifier
            ),
        ))
    }

    async fn list(&self, filter: &ShardFilter) -> Result<Vec<Shard>> {
        list_all(&*self.client, &self.stream, filter, self.retry.backoff(&self.random)).await
    }

    async fn first_start(&self, table: &dyn LeaseTable, description: &StreamDescription) -> Result<SyncReport> {
        // Taken before the listing: what happens to the shards from here on is to be followed.
        let now = self.clock.now();
        if let InitialPosition::AtTimestamp(moment) = self.initial
            && moment > now.plus(CLOCK_TOLERANCE)
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the initial position {moment} lies in the future (it is {now}): use a moment that has passed, or LATEST"),
            ));
        }
        let mut start = Start::of(self.initial, &[], now, kept_since(description, now));
        let (mut leases, mut listed) = self.first_leases(start).await?;
        if let Some(passed) = self.passed(start, &leases).await {
            start = passed;
            (leases, listed) = self.first_leases(start).await?;
        }
        let made;
        (start, made) = self.share_start(table, start, &mut leases, description).await?;
        let wanted = leases.len();
        self.state().begun = Some(start);
        let created = made + self.create(table, leases, description).await?;
        tracing::info!(stream = %self.identifier, shards = listed, created, "first start: made the leases");
        if created < wanted {
            // Another worker is making them too, and may have begun earlier.
            let scan = table.scan().await?;
            self.unify_starts(table, &self.own(&scan)).await?;
        }
        Ok(SyncReport { created, listed, expired: Vec::new() })
    }

    /// The leases to make at the first start, and how many shards were listed.
    async fn first_leases(&self, start: Start) -> Result<(Vec<Lease>, usize)> {
        Ok(match self.open_at(start).await? {
            Some(open) => (open.iter().map(|shard| start.lease(&self.identifier, shard)).collect(), open.len()),
            None => {
                let listed = self.list_without_gap().await?;
                (compare(&self.identifier, &listed, &[], start).missing, listed.len())
            }
        })
    }

    /// An earlier start, where this machine's clock is ahead of the service's so that the frozen moment of `LATEST` is still
    /// to come for it. Whoever began to read at such a moment once it has passed would leave out what was put before. None
    /// when the service knows the moment, or does not say.
    async fn passed(&self, start: Start, leases: &[Lease]) -> Option<Start> {
        let Start::From { checkpoint: Checkpoint::Latest, moment, mid_retention } = start else { return None };
        let shard_id = &leases.first()?.shard_id;
        let mut backoff = self.retry.backoff(&self.random);
        let mut moments = earlier(moment);
        let mut tried = moments.next()?;
        loop {
            match self.client.shard_iterator(&self.stream, shard_id, ShardPosition::AtTimestamp(tried)).await {
                Err(error) if error.kind() == ErrorKind::InvalidInput => tried = moments.next()?,
                // Such as the limit of five iterators a second.
                Err(error) if error.is_retryable() && backoff.wait().await => {}
                Ok(_) if tried != moment => {
                    tracing::warn!(
                        stream = %self.identifier, start_at = %tried,
                        "this machine's clock is ahead of the service's; reading begins at an earlier moment"
                    );
                    return Some(Start::From { checkpoint: Checkpoint::Latest, moment: tried, mid_retention });
                }
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Makes the first lease alone: of several workers that begin at the same time, the one that makes it decides for all
    /// where reading begins. The others' leases get its moment before anybody can take them. Also returns how many it made.
    async fn share_start(
        &self,
        table: &dyn LeaseTable,
        start: Start,
        leases: &mut [Lease],
        description: &StreamDescription,
    ) -> Result<(Start, usize)> {
        let (Start::From { checkpoint, moment, mid_retention }, Some(first)) = (start, leases.first().cloned()) else {
            return Ok((start, 0));
        };
        let key = first.key.clone();
        if self.create(table, vec![first], description).await? > 0 {
            return Ok((start, 1));
        }
        let row = table.get_lease(&key).await?;
        let Some(decided) = row.and_then(|row| row.start_at).filter(|at| *at > BEGINNING && *at < moment) else { return Ok((start, 0)) };
        for lease in leases.iter_mut().filter(|lease| lease.start_at == Some(moment)) {
            lease.start_at = Some(decided);
        }
        Ok((Start::From { checkpoint, moment: decided, mid_retention }, 0))
    }

    /// The shards that were open when reading begins, if that can be asked for.
    async fn open_at(&self, start: Start) -> Result<Option<Vec<Shard>>> {
        let Start::From { moment, mid_retention: true, .. } = start else { return Ok(None) };
        let latest = self.initial == InitialPosition::Latest;
        let listed = match self.list(&ShardFilter::AtTimestamp(moment)).await {
            // This machine's clock may be ahead of the service's, which knows no shards of the future.
            Err(error) if error.kind() == ErrorKind::InvalidInput && latest => self.list(&ShardFilter::AtLatest).await,
            listed => listed,
        };
        match listed {
            Ok(shards) if uncovered(&ranges(&shards)).is_empty() => Ok(Some(shards)),
            // Some shards of that time are past retention, or the filter is not understood.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All shards; the open ones take every hash key.
    async fn list_without_gap(&self) -> Result<Vec<Shard>> {
        let patience =
            RetryConfig { max_attempts: Some(LISTING_ATTEMPTS), min_delay: Duration::from_secs(1), max_delay: Duration::from_secs(1) };
        let mut backoff = patience.backoff(&self.random);
        loop {
            let listed = self.list(&ShardFilter::All).await?;
            let open: Vec<HashKeyRange> = listed.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range).collect();
            let Some(gap) = uncovered(&open).first().copied() else { return Ok(listed) };
            if !backoff.wait().await {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!(
                        "the listing of stream {} has no open shard for hash keys {} to {}: it may be changing its shards, try again",
                        self.stream,
                        gap.start(),
                        gap.end()
                    ),
                ));
            }
        }
    }

    async fn repair(
        &self,
        table: &dyn LeaseTable,
        leases: &[&Lease],
        listed: &[Shard],
        description: &StreamDescription,
    ) -> Result<SyncReport> {
        let now = self.clock.now();
        let start = match self.state().begun {
            Some(begun) if leases.is_empty() => begun,
            Some(_) | None => Start::of(self.initial, leases, now, kept_since(description, now)),
        };
        self.unify_starts(table, leases).await?;
        let Findings { missing, confirmed } = compare(&self.identifier, listed, leases, start);
        for lease in &missing {
            tracing::warn!(stream = %self.identifier, shard_id = %lease.shard_id, checkpoint = %lease.checkpoint, "a lease was missing");
        }
        let after: Vec<&Lease> = leases.iter().copied().chain(&missing).collect();
        let settled = audit(&after);
        let mut created = self.create(table, missing.clone(), description).await?;
        for lease in confirmed {
            self.set_start(table, lease, BEGINNING).await?;
        }

        let past = past_retention(leases, listed);
        let (trimmed, expired): (Vec<_>, Vec<_>) = past.into_iter().partition(|lease| lease.checkpoint.is_shard_end());
        let unread = expired;
        let expired: Vec<ShardId> = unread.iter().map(|lease| lease.shard_id.clone()).collect();
        for lease in &unread {
            self.give_up_expired(table, lease, listed).await?;
        }
        if !unread.is_empty() {
            // What follows them is read at once, instead of after the next sync.
            let scan = table.scan().await?;
            let missing = compare(&self.identifier, listed, &self.own(&scan), start).missing;
            created += self.create(table, missing, description).await?;
        }
        let mut state = self.state();
        state.settled = settled;
        state.begun = Some(start);
        state.trimmed = trimmed.iter().map(|lease| lease.shard_id.clone()).collect();
        state.children = BTreeMap::new();
        for shard in listed {
            for parent in &shard.parents {
                state.children.entry(parent.clone()).or_default().insert(shard.id.clone());
            }
        }
        drop(state);
        Ok(SyncReport { created, listed: listed.len(), expired })
    }

    /// Ends the lease of a shard whose records are gone before they were read: its children would wait for ever. The
    /// listing alone is not believed; the service must say that there is no such shard. The owner, if there is one,
    /// finds its lease gone.
    async fn give_up_expired(&self, table: &dyn LeaseTable, lease: &Lease, listed: &[Shard]) -> Result<()> {
        match self.client.shard_iterator(&self.stream, &lease.shard_id, ShardPosition::TrimHorizon).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        tracing::error!(
            stream = %self.identifier, shard_id = %lease.shard_id, checkpoint = %lease.checkpoint,
            "a shard is past retention before it was read to its end: the rest of its records is lost"
        );
        let children = listed.iter().filter(|shard| shard.parents.contains(&lease.shard_id)).map(|shard| shard.id.clone());
        let children: Vec<ShardId> = children.collect();
        // A fleet that was away for so long takes its leases at this very moment.
        let mut row = lease.clone();
        for _ in 0..GIVE_UP_ATTEMPTS {
            let next = row.ended(WriteId(self.random.next_u64()), children.iter().cloned());
            if table.update_lease(&row, &next).await? == WriteOutcome::Applied {
                return Ok(());
            }
            match table.get_lease(&row.key).await? {
                Some(found) if !found.checkpoint.is_shard_end() => row = found,
                _ => return Ok(()),
            }
        }
        tracing::debug!(lease_key = %lease.key, "the row changed again and again as its lease was given up; the next sync looks again");
        Ok(())
    }

    async fn unify_starts(&self, table: &dyn LeaseTable, leases: &[&Lease]) -> Result<()> {
        for (lease, moment) in late_starts(leases) {
            self.set_start(table, lease, moment).await?;
        }
        Ok(())
    }

    async fn set_start(&self, table: &dyn LeaseTable, lease: &Lease, moment: Timestamp) -> Result<()> {
        let next = lease.annotated(WriteId(self.random.next_u64()), |row| row.start_at = Some(moment));
        if table.update_lease(lease, &next).await? == WriteOutcome::Conflict {
            // Its owner has written meanwhile; the next sync looks again.
            tracing::debug!(lease_key = %lease.key, "could not fill in where the lease starts");
        }
        Ok(())
    }

    /// Creates rows, parents before children, and counts those that were not there.
    async fn create(&self, table: &dyn LeaseTable, leases: Vec<Lease>, description: &StreamDescription) -> Result<usize> {
        let mut created = 0;
        for generation in generations(leases) {
            for batch in generation.chunks(PARALLEL_WRITES) {
                let rows = batch.iter().map(|lease| Lease {
                    stream_created: Some(description.created),
                    stream_arn: Some(description.arn.clone()),
                    ..lease.clone()
                });
                let outcomes = try_join_all(rows.map(|row| self.create_one(table, row))).await?;
                created += outcomes.iter().filter(|outcome| **outcome == WriteOutcome::Applied).count();
            }
        }
        Ok(created)
    }

    /// A row that is there after an unclear answer is as good as one that was made.
    async fn create_one(&self, table: &dyn LeaseTable, row: Lease) -> Result<WriteOutcome> {
        let mut backoff = self.retry.backoff(&self.random);
        loop {
            match table.create_lease(&row).await {
                Err(error) if error.is_retryable() && backoff.wait().await => {}
                Err(error) => return Err(error.context(format_args!("cannot create lease {} in {table}", row.key))),
                answered => return answered,
            }
        }
    }
}

/// Refuses a lease that was made for another stream than this one.
///
/// # Errors
/// `Mismatch`, naming both.
pub(crate) fn refuse_stream_of(lease: &Lease, table: &dyn Display, stream: &StreamArn) -> Result<()> {
    match &lease.stream_arn {
        Some(other) if other != stream => Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "{table} holds the leases of another stream, {other}, and this worker is to read {stream}: use another application \
                 name for it; deleting the leases would lose the progress of whoever reads the other stream"
            ),
        )),
        _ => Ok(()),
    }
}

/// The later of the stream's creation and its trim horizon.
fn kept_since(description: &StreamDescription, now: Timestamp) -> Timestamp {
    now.minus(Duration::from_secs(u64::from(description.retention_hours) * 3600)).max(description.created)
}

fn ranges(shards: &[Shard]) -> Vec<HashKeyRange> {
    shards.iter().map(|shard| shard.hash_key_range).collect()
}

/// Leases whose shards are listed no longer. Ids grow, and a listing may lag: a shard counts as gone only when one made
/// after it is listed.
fn past_retention<'a>(leases: &[&'a Lease], listed: &[Shard]) -> Vec<&'a Lease> {
    let ids: BTreeSet<&ShardId> = listed.iter().map(|shard| &shard.id).collect();
    let Some(newest) = ids.last() else { return Vec::new() };
    leases.iter().copied().filter(|lease| lease.shard_id < **newest && !ids.contains(&lease.shard_id)).collect()
}

/// Leases by their distance from the oldest; `leases` has parents before children.
fn generations(leases: Vec<Lease>) -> Vec<Vec<Lease>> {
    let mut depths: BTreeMap<ShardId, usize> = BTreeMap::new();
    let mut generations: Vec<Vec<Lease>> = Vec::new();
    for lease in leases {
        let depth = lease.parents.iter().filter_map(|parent| depths.get(parent)).map(|depth| depth + 1).max().unwrap_or(0);
        depths.insert(lease.shard_id.clone(), depth);
        if generations.len() <= depth {
            generations.resize_with(depth + 1, Vec::new);
        }
        generations[depth].push(lease);
    }
    generations
}

#[cfg(all(test, feature = "local"))]
#[path = "sync_test.rs"]
mod tests;
