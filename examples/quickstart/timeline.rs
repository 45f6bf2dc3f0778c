//! Who held each shard when: as text, and as a picture.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use shardkeeper::types::ShardId;

use crate::ledger::{End, Tenure};

const COLUMNS: usize = 72;

fn by_shard(tenures: &[Tenure]) -> BTreeMap<&ShardId, Vec<&Tenure>> {
    let mut rows: BTreeMap<&ShardId, Vec<&Tenure>> = BTreeMap::new();
    for tenure in tenures {
        rows.entry(&tenure.shard).or_default().push(tenure);
    }
    rows
}

/// A row per shard, a letter per worker, a dot while nobody has it.
pub fn text(tenures: &[Tenure], total: Duration) -> String {
    let mut out = String::new();
    let column = |at: Duration| ((at.as_secs_f64() / total.as_secs_f64()) * COLUMNS as f64).round() as usize;
    for (shard, tenures) in by_shard(tenures) {
        let first = tenures.iter().map(|t| column(t.from)).min().unwrap_or(0);
        let mut row = vec![' '; COLUMNS];
        let over = tenures
            .iter()
            .filter_map(|t| t.until.filter(|(_, end)| *end == End::ShardEnded))
            .map(|(at, _)| column(at))
            .max()
            .unwrap_or(COLUMNS);
        row[first.min(COLUMNS - 1)..over.max(first).min(COLUMNS)].fill('.');
        for tenure in tenures {
            let until = tenure.until.map_or(COLUMNS, |(at, _)| column(at)).min(COLUMNS);
            let from = column(tenure.from).min(COLUMNS - 1);
            row[from..until.max(from + 1).min(COLUMNS)].fill(tenure.worker);
            if let Some((_, End::Crashed)) = tenure.until {
                row[until.saturating_sub(1)] = '!';
            }
        }
        let _ = writeln!(out, "  {shard}  {}", row.iter().collect::<String>().trim_end());
    }
    let _ = writeln!(out, "  {:21}0 s{:>width$.0} s", "", total.as_secs_f64(), width = COLUMNS - 5);
    out
}

/// The same as an SVG document.
pub fn svg(tenures: &[Tenure], total: Duration) -> String {
    const ROW: f64 = 26.0;
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 800.0;
    let rows = by_shard(tenures);
    let height = ROW * (rows.len() as f64 + 2.0);
    let x = |at: Duration| LEFT + WIDTH * at.as_secs_f64() / total.as_secs_f64();
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{height}" font-family="monospace" font-size="13">"#,
        LEFT + WIDTH + 20.0
    );
    let _ = writeln!(out, r##"<rect width="100%" height="100%" fill="#ffffff"/>"##);
    for (i, (shard, tenures)) in rows.iter().enumerate() {
        let y = ROW * (i as f64 + 0.5);
        let _ = writeln!(out, r#"<text x="8" y="{:.0}">{shard}</text>"#, y + 16.0);
        for tenure in tenures {
            let (until, end) = tenure.until.unwrap_or((total, End::HandedOver));
            let colour = match tenure.worker {
                'A' => "#4477aa",
                'B' => "#ee6677",
                _ => "#228833",
            };
            let width = (x(until) - x(tenure.from)).max(1.0);
            let note = match end {
                End::HandedOver => "handed over",
                End::ShardEnded => "shard ended",
                End::Lost => "lost",
                End::Crashed => "crashed",
            };
            let _ = writeln!(
                out,
                r#"<rect x="{:.1}" y="{y:.0}" width="{width:.1}" height="20" rx="3" fill="{colour}"><title>worker {}: {:.2} s to {:.2} s, {note}</title></rect>"#,
                x(tenure.from),
                tenure.worker,
                tenure.from.as_secs_f64(),
                until.as_secs_f64()
            );
            if width > 14.0 {
                let _ =
                    writeln!(out, r##"<text x="{:.1}" y="{:.0}" fill="#ffffff">{}</text>"##, x(tenure.from) + 4.0, y + 15.0, tenure.worker);
            }
        }
    }
    for second in (0..=total.as_secs()).step_by(5) {
        let _ = writeln!(out, r#"<text x="{:.0}" y="{:.0}">{second} s</text>"#, x(Duration::from_secs(second)), height - 10.0);
    }
    out.push_str("</svg>\n");
    out
}
