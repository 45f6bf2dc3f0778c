//! Rows for people, objects for programs.

use serde_json::json;

use crate::{
    args::Plan,
    latency::{Delays, Latency},
    throughput::{Figures, Throughput},
};

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) plan: Plan,
    pub(crate) throughput: Option<Throughput>,
    pub(crate) latency: Option<Latency>,
}

const COLUMNS: [&str; 11] = [
    "shards",
    "mode",
    "records",
    "CPU s/GB",
    "bare loop",
    "ratio",
    "MB/s, bare loop",
    "1,000 records/s, bare loop",
    "peak MB, bare loop",
    "delay ms p50/p99",
    "bare loop",
];

pub(crate) fn heading() -> String {
    format!("| {} |\n|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()))
}

impl Cell {
    pub(crate) fn line(&self) -> String {
        let Plan { shards, mode, aggregated, .. } = self.plan;
        let kind = if aggregated { "aggregated" } else { "plain" };
        let mut fields = vec![shards.to_string(), mode.to_string(), kind.to_owned()];
        match &self.throughput {
            None => fields.extend(std::iter::repeat_n(String::new(), 6)),
            Some(Throughput { shardkeeper: ours, bare_loop: other, .. }) => {
                let cost = Figures::cpu_seconds_per_gigabyte;
                let both = |of: fn(&Figures) -> f64| format!("{}, {}", number(of(ours)), number(of(other)));
                fields.push(number(cost(ours)));
                fields.push(number(cost(other)));
                fields.push(format!("{} x less", number(cost(other) / cost(ours))));
                fields.push(both(|f| f.median(|w| w.gigabytes * 1000.0 / w.seconds)));
                fields.push(both(|f| f.median(|w| w.records as f64 / w.seconds / 1000.0)));
                fields.push(both(|f| f.peak_megabytes));
            }
        }
        let delays = |of: &Delays| format!("{} / {}", number(of.p50_ms), number(of.p99_ms));
        match &self.latency {
            None => fields.extend([String::new(), String::new()]),
            Some(latency) => fields.extend([delays(&latency.shardkeeper), delays(&latency.bare_loop)]),
        }
        let mut line = format!("| {} |", fields.join(" | "));
        if let Some(peer) = self.throughput.as_ref().and_then(|throughput| throughput.peer.as_ref()) {
            line += &format!(
                " peer: {} CPU s/GB, {} MB/s, {} MB |",
                number(peer.cpu_seconds_per_gigabyte()),
                number(peer.median(|w| w.gigabytes * 1000.0 / w.seconds)),
                number(peer.peak_megabytes)
            );
        }
        line
    }

    pub(crate) fn json(&self) -> String {
        let ratios = self.throughput.as_ref().map(|t| {
            let speed = |f: &Figures| f.median(|w| w.gigabytes / w.seconds);
            json!({
                "cpu_seconds_per_gigabyte": t.shardkeeper.cpu_seconds_per_gigabyte(),
                "bare_loop_cpu_seconds_per_gigabyte": t.bare_loop.cpu_seconds_per_gigabyte(),
                "cpu_times_less": t.bare_loop.cpu_seconds_per_gigabyte() / t.shardkeeper.cpu_seconds_per_gigabyte(),
                "times_faster": speed(&t.shardkeeper) / speed(&t.bare_loop),
            })
        });
        json!({ "plan": self.plan, "ratios": ratios, "throughput": self.throughput, "latency": self.latency }).to_string()
    }
}

/// Three digits say enough.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
