//! Checks that the settings of all modules share.

use std::{ops::RangeInclusive, time::Duration};

use crate::error::{Error, ErrorKind, Result};

/// The longest span that any setting takes. More is a mistake, such as seconds for milliseconds, and far more would
/// overflow what is counted from now.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Checks that a span of time lies within its range.
///
/// # Errors
/// `InvalidInput`, naming the field, its value and the range.
pub(crate) fn check_span(field: &str, value: Duration, range: RangeInclusive<Duration>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (words(*range.start()), words(*range.end()));
    Err(Error::new(ErrorKind::InvalidInput, format!("{field} is {value:?}: set it to {least} up to {most}")))
}

fn words(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        _ if span.subsec_nanos() > 0 => format!("{} ms", span.as_millis()),
        0 => "0".to_owned(),
        _ if secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        _ if secs.is_multiple_of(60) => format!("{} min", secs / 60),
        _ => format!("{secs} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_out_of_range_is_named_with_the_range() {
        let range = Duration::from_millis(10)..=DAY;
        check_span("x", DAY, range.clone()).expect("the end is included");
        let error = check_span("drain_timeout", Duration::MAX, range.clone()).expect_err("too long");
        assert!(error.message().starts_with("drain_timeout is ") && error.message().ends_with("s: set it to 10 ms up to 24 h"), "{error}");
        let error = check_span("drain_timeout", Duration::ZERO, range).expect_err("too short");
        assert_eq!(error.message(), "drain_timeout is 0ns: set it to 10 ms up to 24 h");
    }
}
