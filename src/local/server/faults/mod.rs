//! Faults on demand: rules that requests are held against, from the program itself or through the admin endpoint.

mod rule;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, futures::Notified};

pub use self::rule::{FaultKind, FaultRule};
use super::fault::Fault;
use crate::{error::Result, random::Randomness};

/// What a request is about, as far as its body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) stream: Option<String>,
    pub(super) shard: Option<String>,
}

/// What happens to a request, beside its delay.
#[derive(Debug)]
pub(super) enum Effect {
    Refuse(Fault),
    Reset,
    HalfOpen,
    AnswerLost,
}

/// What happens to a running subscription.
#[derive(Debug)]
pub(super) enum Blow {
    /// It ends with an exception of this name; without one it breaks off.
    Cut(Option<String>),
    /// Nothing more is sent.
    Freeze,
}

/// The fault rules of a server: a cheap handle, shared with it.
///
/// Rules are tried in the order in which they were added; delays add up, and the first rule of any other kind decides.
///
/// # Examples
/// ```no_run
/// # async fn example(server: &shardkeeper::local::server::LocalServer) -> shardkeeper::Result<()> {
/// use shardkeeper::local::server::{FaultKind, FaultRule};
///
/// // The next three answers to GetRecords on the stream are lost.
/// server.faults().add(FaultRule::new(FaultKind::AnswerLost).operation("GetRecords").stream("clicks").count(3))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Rules>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Rules {
    last_id: u64,
    active: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    id: u64,
    rule: FaultRule,
    matched: u64,
    fired: u64,
    randomness: Randomness,
}

/// A rule and what it has done.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ActiveFault {
    /// Its number, from 1; not used again.
    pub id: u64,
    /// Requests, or events of subscriptions, that matched.
    pub matched: u64,
    /// Those that it happened to.
    pub fired: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: FaultRule,
}

impl Active {
    /// Whether the rule happens to one more request that matches.
    fn fires(&mut self) -> bool {
        self.matched += 1;
        if self.matched <= self.rule.skip || self.rule.count.is_some_and(|count| self.fired >= count) {
            return false;
        }
        // Every draw advances the sequence, so that the n-th request of a run meets the n-th draw.
        let hit = self.rule.probability >= 1.0 || self.randomness.chance(self.rule.probability);
        self.fired += u64::from(hit);
        hit
    }

    fn matches(&self, operation: &str, target: &mut Option<Target>, read: &mut dyn FnMut() -> Target) -> bool {
        let rule = &self.rule;
        let operation_matches = match &rule.kind {
            FaultKind::ExpireIterators => operation == "GetRecords",
            FaultKind::CutSubscription { .. } | FaultKind::FreezeSubscription => false,
            _ => rule.operation.as_deref().is_none_or(|name| name == operation),
        };
        if !operation_matches || (rule.stream.is_none() && rule.shard.is_none()) {
            return operation_matches;
        }
        let target = target.get_or_insert_with(read);
        self.is_about(target)
    }

    fn is_about(&self, target: &Target) -> bool {
        self.rule.stream.as_ref().is_none_or(|stream| target.stream.as_ref() == Some(stream))
            && self.rule.shard.as_ref().is_none_or(|shard| target.shard.as_ref() == Some(shard))
    }
}

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule behind those that are there; returns its number. Running subscriptions are held against it at once.
    ///
    /// # Errors
    /// `InvalidInput` for a rule that can never happen.
    pub fn add(&self, rule: FaultRule) -> Result<u64> {
        rule.check()?;
        let id = {
            let mut rules = self.rules();
            rules.last_id += 1;
            let id = rules.last_id;
            let randomness = Randomness::seeded(rule.seed);
            rules.active.push(Active { id, rule, matched: 0, fired: 0, randomness });
            id
        };
        self.0.changed.notify_waiters();
        Ok(id)
    }

    /// The rules in their order, those that have happened their number of times included.
    #[must_use]
    pub fn list(&self) -> Vec<ActiveFault> {
        let describe =
            |active: &Active| ActiveFault { id: active.id, matched: active.matched, fired: active.fired, rule: active.rule.clone() };
        self.rules().active.iter().map(describe).collect()
    }

    /// Removes a rule; `false` when there is none of this number. Requests that it has already delayed or left
    /// unanswered stay so.
    pub fn remove(&self, id: u64) -> bool {
        let mut rules = self.rules();
        let before = rules.active.len();
        rules.active.retain(|active| active.id != id);
        rules.active.len() < before
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules().active.clear();
    }

    /// What happens to a request; `target` is read only when a rule asks for it.
    pub(super) fn decide(&self, operation: &str, mut target: impl FnMut() -> Target) -> (Duration, Option<Effect>) {
        let mut delay = Duration::ZERO;
        let mut known = None;
        let mut rules = self.rules();
        for active in &mut rules.active {
            if !active.matches(operation, &mut known, &mut target) || !active.fires() {
                continue;
            }
            let effect = match &active.rule.kind {
                FaultKind::Latency(more) => {
                    delay = delay.saturating_add(*more);
                    continue;
                }
                FaultKind::Throttle => Effect::Refuse(throttled(operation)),
                FaultKind::Error500 => Effect::Refuse(Fault::injected(500, "InternalFailureException")),
                FaultKind::ConnectionReset => Effect::Reset,
                FaultKind::HalfOpen => Effect::HalfOpen,
                FaultKind::AnswerLost => Effect::AnswerLost,
                FaultKind::ExpireIterators => Effect::Refuse(Fault::injected(400, "ExpiredIteratorException")),
                FaultKind::Refuse { error, status } => Effect::Refuse(Fault::injected(*status, error.clone())),
                FaultKind::CutSubscription { .. } | FaultKind::FreezeSubscription => continue,
            };
            return (delay, Some(effect));
        }
        (delay, None)
    }

    /// What happens to the subscription now, if anything does.
    pub(super) fn strikes(&self, target: &Target) -> Option<Blow> {
        let mut rules = self.rules();
        rules.active.iter_mut().find_map(|active| {
            let blow = match &active.rule.kind {
                FaultKind::CutSubscription { error } => Blow::Cut(error.clone()),
                FaultKind::FreezeSubscription => Blow::Freeze,
                _ => return None,
            };
            (active.is_about(target) && active.fires()).then_some(blow)
        })
    }

    /// Completes when a rule is added.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }
}

fn throttled(operation: &str) -> Fault {
    let of_records = matches!(operation, "GetRecords" | "GetShardIterator" | "PutRecord" | "PutRecords");
    Fault::injected(400, if of_records { "ProvisionedThroughputExceededException" } else { "LimitExceededException" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(stream: &str, shard: Option<&str>) -> Target {
        Target { stream: Some(stream.to_owned()), shard: shard.map(str::to_owned) }
    }

    fn happens(faults: &Faults, operation: &str, about: &Target) -> bool {
        let (delay, effect) = faults.decide(operation, || about.clone());
        effect.is_some() || !delay.is_zero()
    }

    #[test]
    fn rules_match_by_operation_stream_and_shard() {
        let (clicks, first) = (target("clicks", None), target("clicks", Some("shardId-000000000000")));
        for (rule, operation, about, expected) in [
            (FaultRule::new(FaultKind::Error500), "PutRecord", &clicks, true),
            (FaultRule::new(FaultKind::Error500).operation("GetRecords"), "PutRecord", &clicks, false),
            (FaultRule::new(FaultKind::Error500).operation("GetRecords"), "GetRecords", &clicks, true),
            (FaultRule::new(FaultKind::Error500).stream("clicks"), "PutRecord", &clicks, true),
            (FaultRule::new(FaultKind::Error500).stream("other"), "PutRecord", &clicks, false),
            (FaultRule::new(FaultKind::Error500).shard("shardId-000000000000"), "PutRecord", &clicks, false),
            (FaultRule::new(FaultKind::Error500).shard("shardId-000000000000"), "GetRecords", &first, true),
            (FaultRule::new(FaultKind::ExpireIterators), "GetRecords", &first, true),
            (FaultRule::new(FaultKind::ExpireIterators), "PutRecord", &first, false),
            (FaultRule::new(FaultKind::CutSubscription { error: None }), "SubscribeToShard", &first, false),
        ] {
            let faults = Faults::default();
            faults.add(rule.clone()).expect("valid");
            assert_eq!(happens(&faults, operation, about), expected, "{rule:?} {operation}");
        }
    }

    #[test]
    fn some_pass_first_and_then_so_many_are_hit() {
        let faults = Faults::default();
        let id = faults.add(FaultRule::new(FaultKind::Throttle).skip(2).count(3)).expect("valid");
        let hits: Vec<bool> = (0..7).map(|_| happens(&faults, "GetRecords", &Target::default())).collect();
        assert_eq!(hits, [false, false, true, true, true, false, false]);
        assert_eq!((faults.list()[0].matched, faults.list()[0].fired), (7, 3));
        assert!(faults.remove(id) && !faults.remove(id) && faults.list().is_empty());
    }

    #[test]
    fn the_same_seed_draws_the_same_requests() {
        let draw = |seed| -> Vec<bool> {
            let faults = Faults::default();
            faults.add(FaultRule::new(FaultKind::Throttle).probability(0.5, seed)).expect("valid");
            (0..64).map(|_| happens(&faults, "GetRecords", &Target::default())).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((16..=48).contains(&draw(7).iter().filter(|hit| **hit).count()));
    }

    #[test]
    fn delays_add_up_and_the_first_other_rule_decides() {
        let faults = Faults::default();
        let delay = Duration::from_millis(200);
        for kind in [FaultKind::Latency(delay), FaultKind::Latency(delay), FaultKind::AnswerLost, FaultKind::Throttle] {
            faults.add(FaultRule::new(kind)).expect("valid");
        }
        let (waited, effect) = faults.decide("PutRecord", Target::default);
        assert!(waited == delay * 2 && matches!(effect, Some(Effect::AnswerLost)));
        assert_eq!(faults.list()[3].matched, 0);
    }

    #[test]
    fn subscriptions_are_cut_by_their_shard() {
        let faults = Faults::default();
        let rule = FaultRule::new(FaultKind::CutSubscription { error: None }).shard("shardId-000000000001").count(1);
        faults.add(rule).expect("valid");
        assert!(faults.strikes(&target("clicks", Some("shardId-000000000000"))).is_none());
        assert!(faults.strikes(&target("clicks", Some("shardId-000000000001"))).is_some());
        assert!(faults.strikes(&target("clicks", Some("shardId-000000000001"))).is_none());
    }
}
