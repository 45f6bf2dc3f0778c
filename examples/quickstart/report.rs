//! The account at the end, checked against what was put.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    ledger::{End, Ledger},
    timeline,
};

struct Check {
    holds: bool,
    text: String,
}

/// Prints the account; true when every check holds.
pub fn print(ledger: &Ledger, total: Duration, lease_duration: Duration, workers: &[(char, &str)]) -> bool {
    let lost = ledger.undelivered();
    let entries = ledger.entries();
    let shards: BTreeSet<_> = entries.tenures.iter().map(|t| &t.shard).collect();
    let unseen = entries.put.keys().filter(|s| !shards.contains(s)).count();
    let check = |holds, text| Check { holds, text };
    let checks = [
        check(lost == 0, format!("lost                     {lost} of {}", entries.put_count)),
        check(
            entries.repeats_planned == 0,
            format!(
                "repeated                 {} (and {} after the crash, all past the last durable checkpoint)",
                entries.repeats_planned, entries.repeats_crash
            ),
        ),
        check(entries.out_of_order == 0, format!("out of order in a shard  {}", entries.out_of_order)),
        check(entries.user_order_broken == 0, format!("out of order for a user  {} (across splits and merges)", entries.user_order_broken)),
        check(
            unseen == 0,
            format!("shards seen              {} of {}", shards.len() - unseen.min(shards.len()), entries.put.len().max(shards.len())),
        ),
    ];

    println!(
        "\nRecords put {}, delivered {} ({} puts were repeated because of the shard's write limit)\n",
        entries.put_count, entries.delivered_count, entries.put_retries
    );
    for check in &checks {
        println!("  {}  {}", if check.holds { "ok  " } else { "FAIL" }, check.text);
    }

    println!("\nHand-overs (last record on one worker to first on the next)");
    let mut moves = Vec::new();
    for (i, old) in entries.tenures.iter().enumerate() {
        let Some((until, end)) = old.until.filter(|(_, end)| *end != End::ShardEnded) else { continue };
        let Some(next) = entries.tenures[i + 1..].iter().find(|t| t.shard == old.shard) else { continue };
        let (Some(last), Some(first)) = (old.last_delivery, next.first_delivery) else { continue };
        moves.push((until, end, old, next.worker, first.saturating_sub(last)));
    }
    moves.sort_by_key(|(until, _, old, ..)| (*until, old.shard.clone()));
    for (until, end, old, next, pause) in &moves {
        let how = match end {
            End::Crashed => "crash",
            End::Lost => "lost",
            End::HandedOver | End::ShardEnded => "planned",
        };
        println!("  {:5.1} s  {}  {} to {next}  {how:8} {:6.0} ms", until.as_secs_f64(), old.shard, old.worker, millis(*pause));
    }
    let mut pauses: Vec<Duration> = moves.iter().filter(|(_, end, ..)| *end == End::HandedOver).map(|(.., pause)| *pause).collect();
    pauses.sort_unstable();
    if let (Some(median), Some(longest)) = (median(&pauses), pauses.last()) {
        println!("  planned: {} moves, median pause {:.0} ms, longest {:.0} ms", pauses.len(), millis(median), millis(*longest));
    }
    if let Some(longest) = moves.iter().filter(|(_, end, ..)| *end == End::Crashed).map(|(.., pause)| *pause).max() {
        println!(
            "  crash:   longest pause {:.0} ms; a worker that is silent for {lease_duration:?}, the lease duration here, counts as dead",
            millis(longest)
        );
    }

    println!("\nShare of each worker, repeats included");
    let delivered: u64 = entries.per_worker.values().sum();
    for (worker, what) in workers {
        let n = entries.per_worker.get(worker).copied().unwrap_or(0);
        println!("  {worker}  {n:7} records  {:3.0} %  {what}", 100.0 * n as f64 / delivered.max(1) as f64);
    }

    println!("\nWho held each shard when (letter: worker, dot: nobody, !: crash)");
    print!("{}", timeline::text(&entries.tenures, total));
    let all = checks.iter().all(|c| c.holds);
    println!("\n{} in {:.1} s", if all { "All checks hold" } else { "SOME CHECKS FAILED" }, total.as_secs_f64());
    all
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Of sorted values; between the two in the middle when their number is even.
fn median(sorted: &[Duration]) -> Option<Duration> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + upper) / 2 } else { upper })
}
