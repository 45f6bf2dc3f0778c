//! The only writer of a held lease's row in this process: one write after the other, each settled before the next.
//!
//! A conditional write has three outcomes: applied, refused, unknown; and a refusal after a lost answer may be the
//! echo of the write's own success. So every answer but `Applied` is settled by reading the row back: a row marked
//! with one of our write ids is ours; the row we wrote upon means that nothing has landed *yet*, and only a later
//! successful write makes that final; any other row means that the lease is lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    held::{Command, StopRequest, Tenure},
    life::Life,
};
use crate::{
    error::{Error, ErrorKind, Result},
    lease::{Lease, LeaseKey, PendingCheckpoint, Signal, WriteId, WriteOutcome},
    types::{Checkpoint, ChildShard},
};

pub(super) struct LeaseWriter {
    life: Arc<Life>,
    tenure: Arc<Tenure>,
    /// The row as last known to be written or read by us.
    current: Lease,
    /// Rows sent on top of `current` whose outcome is unknown.
    unsettled: Vec<Lease>,
    commands: mpsc::Receiver<Command>,
    last_load: Option<Instant>,
}

/// What reading back has shown.
enum Settled {
    /// The row is one that we have sent.
    Ours(WriteId),
    /// Nothing has landed; try again.
    NotYet,
    /// Another worker has the lease, or the row is gone.
    Lost,
}

impl LeaseWriter {
    pub(super) fn new(life: Arc<Life>, tenure: Arc<Tenure>, current: Lease, commands: mpsc::Receiver<Command>) -> Self {
        Self { life, tenure, current, unsettled: Vec::new(), commands, last_load: None }
    }

    /// Serves the lease's consumer until the tenure ends.
    pub(super) async fn run(mut self) {
        let lost = self.tenure.lost.clone();
        // By a panic too: a consumer without a writer must not go on.
        let _lost_at_the_end = lost.clone().drop_guard();
        loop {
            let command = tokio::select! {
                biased;
                () = lost.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => command,
                    // The consumer is gone without an end: its lease must not look alive.
                    None => {
                        drop(self.surrender(None).await);
                        break;
                    }
                },
            };
            let over = match command {
                Command::Checkpoint(checkpoint, reply) => answer(reply, self.checkpoint(checkpoint).await),
                Command::Prepare(pending, reply) => answer(reply, self.prepare(pending).await),
                Command::ParentsFinished(reply) => {
                    let finished = self.parents_finished().await;
                    drop(reply.send(finished));
                    false
                }
                Command::Reread(reply) => {
                    let row = self.reread().await;
                    drop(reply.send(row.map(Box::new)));
                    false
                }
                Command::Surrender(last, reply) => {
                    answer(reply, self.surrender(last).await);
                    true
                }
                Command::EndShard(children, reply) => {
                    let outcome = self.end_shard(&children).await;
                    let over = outcome.is_ok();
                    answer(reply, outcome) || over
                }
            };
            if over {
                break;
            }
        }
        self.life.let_go(&self.tenure);
    }

    async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let load = self.measure_load();
        self.write(Some(self.life.outfit.config.lease_duration), move |row, id| {
            let mut next = row.checkpointed(id, checkpoint);
            next.throughput_kbps = load.or(next.throughput_kbps);
            next
        })
        .await
    }

    async fn prepare(&mut self, pending: PendingCheckpoint) -> Result<()> {
        self.write(Some(self.life.outfit.config.lease_duration), move |row, id| row.prepared(id, pending.clone())).await
    }

    /// Load since the last measurement, averaged half and half with what the row says.
    fn measure_load(&mut self) -> Option<f64> {
        let now = Instant::now();
        let since = self.last_load.replace(now)?;
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds < 0.5 {
            self.last_load = Some(since);
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "bytes between two checkpoints are far below 2^52")]
        let rate = self.tenure.take_bytes() as f64 / 1024.0 / seconds;
        let average = self.current.throughput_kbps.map_or(rate, |old| 0.5 * old + 0.5 * rate);
        Some((average * 1e6).round() / 1e6)
    }

    async fn surrender(&mut self, last: Option<Checkpoint>) -> Result<()> {
        self.tenure.begin_surrender();
        let request = self.tenure.stop_request().unwrap_or(StopRequest::Release);
        let checkpoint = last.unwrap_or(self.current.checkpoint);
        // Without a limit: a row that stays this worker's after its consumer has gone would be read by nobody, and
        // taken by nobody while this worker lives. It ends with the life at the latest.
        let limit = None;
        match request {
            StopRequest::HandOver { to } => {
                self.write(limit, |row, id| row.handed_over(id, &to, checkpoint)).await?;
                tracing::info!(worker_id = %self.life.me(), lease_key = %self.current.key, to = %to, checkpoint = %self.current.checkpoint, "lease handed over");
                let accept = Signal::Accept { lease: self.current.key.clone(), counter: self.current.counter };
                self.life.signal(&to, &[accept]).await;
            }
            StopRequest::Release => {
                self.write(limit, |row, id| row.released(id, checkpoint)).await?;
                tracing::info!(worker_id = %self.life.me(), lease_key = %self.current.key, checkpoint = %self.current.checkpoint, "lease released");
                self.life.request_plan().await;
            }
        }
        Ok(())
    }

    /// The children's rows are made before the parent's end is written: whoever sees the end can rely on them.
    async fn end_shard(&mut self, children: &[ChildShard]) -> Result<()> {
        let mut made = Vec::new();
        let mut any_free = false;
        for child in children {
            match self.create_child(child).await? {
                // Held from now on, since this attempt may fail before the parent's end is written: a row that is this
                // worker's and that no consumer has would be read by nobody. The consumer waits for the parent.
                Created::Owned(lease) => {
                    made.push(lease.key.clone());
                    self.life.hold(*lease).await;
                }
                Created::Exists(key) => made.push(key),
                Created::Free => any_free = true,
            }
        }
        let ids: Vec<_> = children.iter().map(|c| c.id.clone()).collect();
        self.write(Some(self.life.outfit.config.lease_duration), |row, id| row.ended(id, ids.iter().cloned())).await?;
        tracing::info!(worker_id = %self.life.me(), lease_key = %self.current.key, children = ids.len(), "shard ended");
        for key in made {
            self.tell_child(key).await;
        }
        if any_free {
            self.life.request_plan().await;
        }
        Ok(())
    }

    /// Makes a child's row, owned by this worker so that reading goes on at once, unless the worker is leaving.
    async fn create_child(&self, child: &ChildShard) -> Result<Created> {
        let outfit = &self.life.outfit;
        let id = outfit.write_id();
        let keep = !self.life.is_leaving() && self.tenure.stop_request().is_none();
        let mut row = self.current.for_child(child);
        if keep {
            row = row.owned_from_start(id, self.life.me(), self.life.instance);
        } else {
            row.write_id = Some(id);
        }
        let created = |row: Lease| if keep { Created::Owned(Box::new(row)) } else { Created::Free };
        let mut backoff = outfit.table_retry().backoff(&outfit.random);
        let deadline = Instant::now() + outfit.config.lease_duration;
        loop {
            self.still_held()?;
            let error = match outfit.call(outfit.table.create_lease(&row)).await {
                Ok(WriteOutcome::Applied) => return Ok(created(row)),
                // Someone else's row, or the echo of an own attempt whose answer was lost.
                Ok(WriteOutcome::Conflict) => match outfit.call(outfit.table.get_lease(&row.key)).await {
                    Ok(Some(found)) if found.was_written_by(id) => return Ok(created(found)),
                    // Made by a former attempt to end this shard, whose outcome was not known.
                    Ok(Some(found)) if self.is_mine_and_unheld(&found) => return Ok(Created::Owned(Box::new(found))),
                    Ok(Some(found)) => return Ok(Created::Exists(found.key)),
                    Ok(None) => Error::new(ErrorKind::Unavailable, format!("lease {} was deleted as it was made", row.key)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !retry_table(&error) || Instant::now() >= deadline || !backoff.wait().await {
                return Err(error.context(format!("cannot make the lease of child shard {}", child.id)));
            }
        }
    }

    fn is_mine_and_unheld(&self, row: &Lease) -> bool {
        let state = self.life.state();
        let elsewhere = state.held.contains_key(&row.key) || state.taking.contains(&row.key);
        row.is_held_by(self.life.me(), self.life.instance) && !elsewhere
    }

    /// Lets the owner of a child that waits for this shard look at once.
    async fn tell_child(&self, key: LeaseKey) {
        let local = self.life.state().held.get(&key).cloned();
        if let Some(tenure) = local {
            tenure.parent_has_ended();
            return;
        }
        let outfit = &self.life.outfit;
        match outfit.call(outfit.table.get_lease(&key)).await {
            Ok(Some(Lease { owner: Some(owner), .. })) => {
                self.life.signal(&owner, &[Signal::ParentEnded { lease: key, counter: self.current.counter }]).await;
            }
            Ok(Some(_)) => self.life.request_plan().await,
            Ok(None) | Err(_) => tracing::debug!(lease_key = %key, "cannot tell the child's owner; it looks by itself"),
        }
    }

    async fn parents_finished(&self) -> Result<bool> {
        let outfit = &self.life.outfit;
        let mut absent = false;
        for parent in &self.current.parents {
            let key = self.current.sibling_key(parent);
            match outfit.call(outfit.table.get_lease(&key)).await? {
                Some(lease) if !lease.checkpoint.is_shard_end() => return Ok(false),
                Some(_) => {}
                None => absent = true,
            }
        }
        if !absent || self.current.vouches_for_ancestors() {
            return Ok(true);
        }
        // A parent without a row may be long finished, or its row may still have to be made: the shard sync of the
        // housekeeper knows, and leaves its word in this row.
        let own = outfit.call(outfit.table.get_lease(&self.current.key)).await?;
        Ok(own.is_some_and(|row| row.vouches_for_ancestors()))
    }

    /// The row as it is now. Somebody may have written it by hand, without raising its counter.
    async fn reread(&mut self) -> Result<Lease> {
        let outfit = &self.life.outfit;
        let found = outfit.call(outfit.table.get_lease(&self.current.key)).await?;
        let Some(row) = found.filter(|row| row.is_held_by(self.life.me(), self.life.instance)) else {
            // The next write finds out for certain, and ends the tenure.
            return Err(Error::new(ErrorKind::Unavailable, format!("the row of lease {} is not this worker's", self.current.key)));
        };
        if self.unsettled.is_empty() {
            self.current = row.clone();
        }
        Ok(row)
    }

    fn still_held(&self) -> Result<()> {
        if self.tenure.lost.is_cancelled() { Err(self.lost()) } else { Ok(()) }
    }

    fn lost(&self) -> Error {
        Error::new(ErrorKind::LeaseLost, format!("lease {} has gone to another worker", self.current.key))
    }

    /// Writes `make` of the current row, and settles the outcome, until `limit` is over if there is one.
    async fn write(&mut self, limit: Option<Duration>, make: impl Fn(&Lease, WriteId) -> Lease + Send) -> Result<()> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let outfit = self.life.outfit.clone();
        let mut backoff = outfit.table_retry().backoff(&outfit.random);
        let mut own = Vec::new();
        loop {
            self.still_held()?;
            let id = outfit.write_id();
            let next = make(&self.current, id);
            let error = match outfit.call(outfit.table.update_lease(&self.current, &next)).await {
                Ok(WriteOutcome::Applied) => {
                    self.current = next;
                    self.unsettled.clear();
                    return Ok(());
                }
                Err(error) if error.has_no_side_effects() => error,
                ambiguous => {
                    own.push(id);
                    self.unsettled.push(next);
                    match self.settle().await {
                        Ok(Settled::Ours(landed)) if own.contains(&landed) => return Ok(()),
                        Ok(Settled::Lost) => {
                            tracing::warn!(worker_id = %self.life.me(), lease_key = %self.current.key, "lease lost to another worker");
                            self.life.let_go(&self.tenure);
                            return Err(self.lost());
                        }
                        Ok(Settled::Ours(_)) => continue,
                        Ok(Settled::NotYet) => ambiguous.err().unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the row is in flux")),
                        Err(error) => error,
                    }
                }
            };
            // A write without a limit ends the tenure: it is tried for as long as the life lasts, whatever the error, since
            // the row would else look alive with nobody to read the shard.
            if (limit.is_some() && !retry_table(&error)) || deadline.is_some_and(|at| Instant::now() >= at) || !backoff.wait().await {
                return Err(error.context(format!("cannot write lease {}", self.current.key)));
            }
        }
    }

    /// Reads the row back and adopts what is there if it is this tenure's.
    async fn settle(&mut self) -> Result<Settled> {
        let outfit = &self.life.outfit;
        let Some(row) = outfit.call(outfit.table.get_lease(&self.current.key)).await? else {
            return Ok(Settled::Lost);
        };
        let landed = self.unsettled.iter().filter_map(|sent| sent.write_id).find(|id| row.was_written_by(*id));
        if let Some(id) = landed {
            self.current = row;
            self.unsettled.clear();
            return Ok(Settled::Ours(id));
        }
        if !row.is_held_by(self.life.me(), self.life.instance) {
            return Ok(Settled::Lost);
        }
        if row.counter != self.current.counter {
            // The housekeeper has filled in metadata; whatever we had sent upon the former row can no longer land.
            self.current = row;
            self.unsettled.clear();
        }
        Ok(Settled::NotYet)
    }
}

enum Created {
    Owned(Box<Lease>),
    Free,
    Exists(LeaseKey),
}

/// Whether trying again can help; a lost lease or a wrong call cannot be mended that way.
pub(super) const fn retry_table(error: &Error) -> bool {
    error.is_retryable()
}

/// Sends the answer and says whether the tenure is over.
fn answer(reply: oneshot::Sender<Result<()>>, outcome: Result<()>) -> bool {
    let lost = matches!(&outcome, Err(error) if error.kind() == ErrorKind::LeaseLost);
    // The consumer may have stopped waiting.
    drop(reply.send(outcome));
    lost
}
