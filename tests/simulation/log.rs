//! The event log: always hashed, kept as text only where somebody will read it.

use std::{
    fmt::{self, Display, Write},
    time::Duration,
};

/// The log of one run. Two runs of a seed have the same hash, or the simulation is worth nothing.
#[derive(Debug)]
pub(crate) struct Log {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Log {
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: keep.then(Vec::new) }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: Duration, what: &dyn Display) {
        self.events += 1;
        self.number(now.as_micros() as u64);
        write!(Hasher(&mut self.hash), "{what}").expect("hashing does not fail");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} {what}", now.as_secs_f64()));
        }
    }

    /// Adds numbers that matter for the hash and would only tire a reader.
    pub(crate) fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.number(*number);
        }
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            step(&mut self.hash, byte);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

/// One step of FNV-1a.
const fn step(hash: &mut u64, byte: u8) {
    *hash = (*hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
}

struct Hasher<'a>(&'a mut u64);

impl Write for Hasher<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.bytes().for_each(|byte| step(self.0, byte));
        Ok(())
    }
}
