//! Dates as templates print them: C's `strftime` in UTC, with English names.

use crate::types::calendar::civil;

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats seconds since 1970, in UTC, as C's `strftime` does. Directives that templates don't use are left unchanged.
pub fn strftime(format: &str, unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(days % 7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        // glibc's `%-d`: without the leading zero.
        let bare = directive == Some('-');
        if bare {
            directive = chars.next();
        }
        let two = |n: u64| if bare { n.to_string() } else { format!("{n:02}") };
        match directive {
            Some('Y') => out += &year.to_string(),
            Some('y') => out += &two(year % 100),
            Some('m') => out += &two(month),
            Some('d') => out += &two(day),
            Some('e') => out += &format!("{day:2}"),
            Some('H') => out += &two(second / 3_600),
            Some('I') => out += &two((second / 3_600 + 11) % 12 + 1),
            Some('M') => out += &two(second / 60 % 60),
            Some('S') => out += &two(second % 60),
            Some('p') => out += if second < 43_200 { "AM" } else { "PM" },
            Some('B') => out += month_name,
            Some('b' | 'h') => out += &month_name[..3],
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('F') => out += &format!("{year}-{month:02}-{day:02}"),
            Some('T') => out += &format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60),
            Some('Z') => out += "UTC",
            Some('%') => out.push('%'),
            other => {
                out.push('%');
                out.extend(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "01 Jan 1970 Thursday 00:00:00"),
            (951_782_399, "28 Feb 2000 Monday 23:59:59"),
            (951_782_400, "29 Feb 2000 Tuesday 00:00:00"),
            (1_709_251_199, "29 Feb 2024 Thursday 23:59:59"),
            (4_107_542_400, "01 Mar 2100 Monday 00:00:00"),
        ] {
            assert_eq!(strftime("%d %b %Y %A %H:%M:%S", unix_s), text);
        }
        assert_eq!(strftime("%-d.%-m.%y %I%p %% %Q %", 951_782_400), "29.2.00 12AM % %Q %");
    }
}
