//! Moments as the service writes them into messages.

use crate::types::Timestamp;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment such as `Thu Jan 22 01:22:02 UTC 2015`.
pub(super) fn utc_text(time: Timestamp) -> String {
    let seconds = time.as_millis().div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let weekday = WEEKDAYS[usize::try_from(days.rem_euclid(7)).expect("0 to 6")];
    let (year, month, day) = civil(days);
    format!("{weekday} {} {day:02} {:02}:{:02}:{:02} UTC {year}", MONTHS[month], second / 3600, second / 60 % 60, second % 60)
}

/// Year, month from 0 and day from 1 of the day that many days after 1 January 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, usize, i64) {
    // Years are counted from March, so that the leap day comes last; 719,468 days lie between 1 March 0 and the epoch.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    (year, usize::try_from(month).expect("0 to 11"), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_the_service_writes_them() {
        for (seconds, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (1_421_889_722, "Thu Jan 22 01:22:02 UTC 2015"),
            (951_782_400, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_709_251_199, "Thu Feb 29 23:59:59 UTC 2024"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(utc_text(Timestamp::from_millis(seconds * 1000)), text);
        }
    }
}
