//! Rows of the result: measured, wanted, and the figure of the best peer.

use serde_json::json;

/// Several measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

/// What the measurement should not, or should, exceed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// The largest value at most this.
    Max(f64),
    /// The median at most this.
    Median(f64),
    /// The smallest value at least this.
    AtLeast(f64),
    /// Told for comparison.
    None,
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    sample: Sample,
    target: Target,
    peer: &'static str,
}

impl Row {
    /// `peer` is what the best of the others reaches in the same scenario.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, sample: impl Into<Sample>, target: Target, peer: &'static str) -> Self {
        Self { what: what.into(), unit, sample: sample.into(), target, peer }
    }

    fn met(&self) -> Option<bool> {
        if self.sample.0.is_empty() {
            return Some(false);
        }
        match self.target {
            Target::Max(limit) => Some(self.sample.max() <= limit),
            Target::Median(limit) => Some(self.sample.median() <= limit),
            Target::AtLeast(limit) => Some(self.sample.0[0] >= limit),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::Max(limit) => format!("<= {limit}"),
            Target::Median(limit) => format!("p50 <= {limit}"),
            Target::AtLeast(limit) => format!(">= {limit}"),
            Target::None => String::new(),
        }
    }

    /// For people.
    pub(crate) fn line(&self, scenario: &str) -> String {
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        format!(
            "| {scenario} | {} | {} | {} | {} | {} | {} | {} {verdict} | {} |",
            self.what,
            self.unit,
            self.sample.0.len(),
            number(self.sample.0.first().copied().unwrap_or(f64::NAN)),
            number(self.sample.median()),
            number(self.sample.max()),
            self.target(),
            self.peer
        )
    }

    /// For programs.
    pub(crate) fn json(&self, scenario: &str) -> String {
        json!({
            "scenario": scenario,
            "what": self.what,
            "unit": self.unit,
            "n": self.sample.0.len(),
            "min": self.sample.0.first(),
            "median": self.sample.median(),
            "max": self.sample.max(),
            "all": self.sample.0,
            "target": self.target(),
            "met": self.met(),
            "peer": self.peer,
        })
        .to_string()
    }
}

pub(crate) fn heading() -> String {
    "| scenario | what | unit | n | min | p50 | max | target | best of the others |\n|---|---|---|---|---|---|---|---|---|".to_owned()
}

/// Three digits say enough.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
