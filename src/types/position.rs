//! Positions in a shard: where reading starts, and how far it has come.

use super::{ExtendedSequenceNumber, SequenceNumber, Timestamp, text::InvalidText};

/// Where a new application starts to read a stream. Kept shards continue from their checkpoint whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialPosition {
    /// The oldest record in retention.
    TrimHorizon,
    /// What is put after the application's first start; the moment of that start is kept with the leases.
    #[default]
    Latest,
    /// The first record that arrived at or after this moment.
    AtTimestamp(Timestamp),
}

/// How far a shard has been processed, as its lease row records it.
///
/// Ordered as KCL orders it: `AtTimestamp < TrimHorizon < Latest <` any sequence number `< ShardEnd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checkpoint {
    /// Not begun; start at the moment kept beside it.
    AtTimestamp,
    /// Not begun; start at the oldest record.
    TrimHorizon,
    /// Not begun; start at the tip as it was when the lease was made.
    Latest,
    /// Everything up to and including this record is processed.
    Sequence(ExtendedSequenceNumber),
    /// Everything is processed and the shard is closed.
    ShardEnd,
}

impl Checkpoint {
    /// The text form of the `checkpoint` attribute.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP".to_owned(),
            Self::TrimHorizon => "TRIM_HORIZON".to_owned(),
            Self::Latest => "LATEST".to_owned(),
            Self::Sequence(n) => n.sequence_number.to_string(),
            Self::ShardEnd => "SHARD_END".to_owned(),
        }
    }

    /// The `checkpointSubSequenceNumber` attribute: 0 but inside aggregates.
    #[must_use]
    pub const fn sub_sequence_number(&self) -> u64 {
        match self {
            Self::Sequence(n) => n.sub_sequence_number,
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => 0,
        }
    }

    /// Reads the two attributes.
    ///
    /// # Errors
    /// When the text is no sentinel and no number, or a sentinel comes with a sub-sequence number.
    pub fn parse(text: &str, sub_sequence_number: u64) -> Result<Self, InvalidText> {
        let sentinel = match text {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            _ => {
                let number = SequenceNumber::parse(text).map_err(|_| {
                    InvalidText::new("checkpoint", text, "expected a sequence number, TRIM_HORIZON, LATEST, AT_TIMESTAMP or SHARD_END")
                })?;
                return Ok(Self::Sequence(ExtendedSequenceNumber::new(number, sub_sequence_number)));
            }
        };
        if sub_sequence_number != 0 {
            return Err(InvalidText::new("checkpoint", text, "a sentinel cannot have a sub-sequence number"));
        }
        Ok(sentinel)
    }

    /// Whether the shard is done.
    #[must_use]
    pub const fn is_shard_end(&self) -> bool {
        matches!(self, Self::ShardEnd)
    }
}

impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sequence(n) => n.fmt(f),
            sentinel => f.write_str(&sentinel.text()),
        }
    }
}

impl From<ExtendedSequenceNumber> for Checkpoint {
    fn from(n: ExtendedSequenceNumber) -> Self {
        Self::Sequence(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_and_numbers_are_ordered_as_kcl_orders_them() {
        let one = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 1), 0));
        let one_sub = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 1), 1));
        let two = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 2), 0));
        let order = [Checkpoint::AtTimestamp, Checkpoint::TrimHorizon, Checkpoint::Latest, one, one_sub, two, Checkpoint::ShardEnd];
        assert!(order.is_sorted() && order.windows(2).all(|w| w[0] != w[1]));
        for checkpoint in order {
            assert_eq!(Checkpoint::parse(&checkpoint.text(), checkpoint.sub_sequence_number()), Ok(checkpoint));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, sub) in [("", 0), ("latest", 0), ("SHARD_END", 1), ("-5", 0)] {
            assert!(Checkpoint::parse(text, sub).is_err(), "{text}");
        }
    }
}
