//! What is shown while it runs: a live line on a terminal, plain lines elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ledger::Ledger;

#[derive(Clone)]
pub struct Display {
    bar: Option<ProgressBar>,
    ledger: Ledger,
}

impl Display {
    pub fn new(ledger: Ledger, length: Duration) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(length.as_millis() as u64);
            let style = ProgressStyle::with_template("{bar:24.cyan/blue} {msg}").expect("a valid template");
            bar.set_style(style);
            bar
        });
        Self { bar, ledger }
    }

    /// Tells of something that has just been done.
    pub fn event(&self, text: &str) {
        let line = format!("{:5.1} s  {text}", self.ledger.now().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => println!("{line}"),
        }
    }

    /// Shows where it stands, several times a second; on no terminal once every few seconds.
    pub async fn run(self) {
        let pause = if self.bar.is_some() { Duration::from_millis(200) } else { Duration::from_secs(3) };
        loop {
            tokio::time::sleep(pause).await;
            let now = self.ledger.now();
            let line = {
                let entries = self.ledger.entries();
                let mut owners = std::collections::BTreeMap::<char, u32>::new();
                for tenure in entries.tenures.iter().filter(|t| t.until.is_none()) {
                    *owners.entry(tenure.worker).or_default() += 1;
                }
                let owners: Vec<String> =
                    owners.iter().map(|(worker, n)| format!("{worker}: {n} {}", if *n == 1 { "shard" } else { "shards" })).collect();
                let behind = entries.put_count.saturating_sub(entries.delivered_count);
                format!("put {}, delivered {}, on their way {behind} | {}", entries.put_count, entries.delivered_count, owners.join(", "))
            };
            match &self.bar {
                Some(bar) => {
                    bar.set_position(now.as_millis() as u64);
                    bar.set_message(format!("{:4.1} s  {line}", now.as_secs_f64()));
                }
                None => println!("{:5.1} s  {line}", now.as_secs_f64()),
            }
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
