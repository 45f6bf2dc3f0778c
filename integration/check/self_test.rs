//! That the checks find what they look for: a sound history, and one fault at a time planted in it.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use shardkeeper::types::{Checkpoint, SequenceNumber, ShardId};

use super::{Evidence, Lineage, TableWatch, everything};
use crate::rig::{Event, History, PutRecord, Result};

/// Shard 0 is read by `a`, killed after 20 of which it had checkpointed 10, then by `b`, who hands it to `c`; shard 1 is
/// its child.
struct Story {
    put: Vec<(u64, u64)>,
    events: Vec<(&'static str, Value)>,
    rows: Vec<(u64, u64, Checkpoint)>,
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::Sequence(SequenceNumber::from_parts(0, u128::from(number)).into())
}

fn init(t: i64, shard: u64, token: u64, from: &str) -> Value {
    json!({ "t": t, "ev": "init", "shard": ShardId::from_index(shard).as_str(), "token": token, "from": from })
}

fn batch(t: i64, shard: u64, token: u64, first: u64, last: u64) -> Value {
    let mut event = init(t, shard, token, "");
    event["ev"] = json!("batch");
    event["first"] = json!(first.to_string());
    event["last"] = json!(last.to_string());
    // Numbers are tens.
    event["n"] = json!((last - first) / 10 + 1);
    event
}

fn simple(t: i64, kind: &str, shard: u64, token: u64) -> Value {
    let mut event = init(t, shard, token, "");
    event["ev"] = json!(kind);
    event
}

fn checkpoint(t: i64, shard: u64, token: u64, at: u64) -> Value {
    let mut event = simple(t, "checkpoint", shard, token);
    event["at"] = json!(at.to_string());
    event
}

impl Story {
    fn sound() -> Self {
        Self {
            put: vec![(0, 10), (0, 20), (0, 30), (0, 40), (1, 50), (1, 60)],
            events: vec![
                ("a", init(100, 0, 1, "TRIM_HORIZON")),
                ("a", batch(110, 0, 1, 10, 10)),
                ("a", checkpoint(111, 0, 1, 10)),
                ("a", batch(120, 0, 1, 20, 20)),
                ("b", init(200, 0, 3, "10")),
                ("b", batch(210, 0, 3, 20, 30)),
                ("b", checkpoint(211, 0, 3, 30)),
                ("b", simple(220, "shutdown_requested", 0, 3)),
                ("c", init(300, 0, 6, "30")),
                ("c", batch(310, 0, 6, 40, 40)),
                ("c", checkpoint(311, 0, 6, 40)),
                ("c", simple(320, "shard_ended", 0, 6)),
                ("c", init(400, 1, 1, "TRIM_HORIZON")),
                ("c", batch(410, 1, 1, 50, 60)),
            ],
            rows: vec![(0, 0, Checkpoint::TrimHorizon), (0, 2, at(10)), (0, 4, at(30)), (0, 7, at(40)), (0, 8, Checkpoint::ShardEnd)],
        }
    }

    fn verdict(self) -> Result {
        let shard = ShardId::from_index;
        let put = self.put.iter();
        let put = put.map(|(s, n)| PutRecord { shard: shard(*s), sequence_number: SequenceNumber::from_parts(0, u128::from(*n)) });
        let mut history = History::default();
        for worker in ["a", "b", "c"] {
            let events = self.events.iter().filter(|(name, _)| *name == worker);
            let events: Vec<Event> = events.map(|(_, event)| serde_json::from_value(event.clone())).collect::<Result<_, _>>()?;
            history.add(worker, &events)?;
        }
        everything(&Evidence {
            put: put.collect(),
            history,
            parents: vec![Lineage { child: shard(1), parents: vec![shard(0)] }],
            disturbed: ["a".to_owned()].into(),
            table: TableWatch::of(self.rows.into_iter().map(|(s, counter, checkpoint)| (shard(s), counter, checkpoint))),
        })
    }
}

type Fault = (&'static str, &'static str, fn(&mut Story));

const FAULTS: [Fault; 12] = [
    ("a record nobody got", "P1", |story| story.put.push((1, 70))),
    ("a record missing inside a batch", "P1", |story| story.put.insert(5, (1, 55))),
    ("a batch out of order", "P2", |story| story.events[3].1 = batch(120, 0, 1, 10, 10)),
    ("a child before its parent's end", "P2", |story| story.events[13].1["t"] = json!(315)),
    ("a child before its parent's last record", "P2", |story| story.events[9].1["t"] = json!(420)),
    ("a repeat of what was checkpointed", "P3", |story| story.events[5].1 = batch(210, 0, 3, 10, 30)),
    ("a repeat after a planned move", "P3", |story| {
        story.events[8].1 = init(300, 0, 6, "20");
        story.rows.remove(2);
        story.events.remove(6);
    }),
    ("a start behind what the table said", "P3", |story| story.rows[2].2 = at(35)),
    ("a checkpoint of a former owner", "P4", |story| story.events[2].1 = checkpoint(250, 0, 1, 20)),
    ("batches of a former owner", "P4", |story| {
        story.events[1].1["t"] = json!(205);
        story.events[3].1["t"] = json!(206);
    }),
    ("a checkpoint that went back", "P4", |story| story.rows[3].2 = at(20)),
    ("a counter that went back", "P4", |story| story.rows[3].1 = 3),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial::test("check_accepts_what_is_sound", || Story::sound().verdict().map_err(|e| e.to_string().into()))];
    for (name, promise, plant) in FAULTS {
        trials.push(Trial::test(format!("check_finds_{}", name.replace(' ', "_").replace('\'', "")), move || {
            let mut story = Story::sound();
            plant(&mut story);
            match story.verdict() {
                Ok(()) => Err(format!("not found: {name}").into()),
                Err(error) if error.to_string().contains(promise) => Ok(()),
                Err(error) => Err(format!("found something else than a violation of {promise}: {error}").into()),
            }
        }));
    }
    trials
}
