//! Workers: the processes of a fleet.

use super::text::{InvalidText, text_id};

text_id! {
    /// Name of one worker process in its fleet, such as `host-7:3f9a`; 1 to 128 printable characters without spaces.
    ///
    /// Unique among the workers that share a lease table: it is the owner written into lease rows.
    WorkerId, "worker id", |value| {
        if value.is_empty() || value.len() > 128 {
            Err(InvalidText::new("worker id", value, "it must have 1 to 128 characters"))
        } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
            Err(InvalidText::new("worker id", value, "allowed are printable ASCII characters without spaces"))
        } else {
            Ok(())
        }
    }
}

/// One life of a worker: drawn anew each time a process joins the fleet, so that a restarted process with the
/// same [`WorkerId`] is never taken for its predecessor. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for InstanceId {
    type Err = InvalidText;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(Self).map_err(|_| InvalidText::new("worker instance", s, "expected up to 16 hexadecimal digits"))
    }
}
