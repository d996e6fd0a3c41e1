//! The `Date` header. Each thread caches it for a second. Never asks the operating system for a time zone.

use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;

thread_local! {
    static LATEST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// The current time as RFC 9110 writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn now() -> String {
    let mut text = Vec::with_capacity(29);
    append_now(&mut text);
    text.into_iter().map(char::from).collect()
}

/// Appends the current time to `out`.
pub(crate) fn append_now(out: &mut Vec<u8>) {
    let second = u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0);
    LATEST.with_borrow_mut(|(of, text)| {
        if *of != second {
            *text = format(second);
            *of = second;
        }
        out.extend_from_slice(text.as_bytes());
    });
}

/// `second` since 1970 as a date. Its year has four digits. Days become a date by walking through years and months. Each
/// thread does this once a second, which is once for each answer if answers are long. The digits are written without
/// `format!`, which takes ten times as many instructions.
fn format(second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = second / 86_400;
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    let two = |number: u64| [number / 10, number % 10].map(|digit| char::from(b'0' + digit as u8));
    let mut text = String::with_capacity(29);
    text.push_str(DAYS[(days % 7) as usize]);
    text.push_str(", ");
    text.extend(two(left + 1));
    text.push(' ');
    text.push_str(MONTHS[month]);
    text.push(' ');
    text.extend(two(year / 100 % 100));
    text.extend(two(year % 100));
    for (mark, number) in [(' ', hour), (':', minute), (':', second)] {
        text.push(mark);
        text.extend(two(number));
    }
    text.push_str(" GMT");
    text
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn dates_known_from_elsewhere() {
        assert_eq!(format(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(format(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }
}
