//! Numbers and times within bounds.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{Takes, ValueKind};
use crate::config::layers::quoted;

/// A number within bounds. NaN is refused.
#[derive(Debug)]
pub struct Number<T> {
    /// Its name in the help.
    pub name: &'static str,
    /// The accepted numbers.
    pub within: RangeInclusive<T>,
}

impl<T: FromStr + PartialOrd + Display + Debug + Copy + Sync + 'static> Takes for Number<T> {
    type Value = T;

    fn kind(&self) -> ValueKind {
        ValueKind::Value(self.name)
    }

    fn accepts(&self) -> String {
        // The smallest positive float is written as "above 0".
        let (least, most) = (self.within.start().to_string(), self.within.end());
        if least == f32::MIN_POSITIVE.to_string() {
            format!("above 0 and up to {most}")
        } else {
            format!("from {least} to {most}")
        }
    }

    fn read(&self, text: &str) -> Result<T, String> {
        let number = text.parse::<T>().ok().filter(|number| self.within.contains(number));
        number.ok_or_else(|| format!("{} isn't a number {}", quoted(text), self.accepts()))
    }

    fn show(&self, value: &T, _: Option<&str>) -> Option<String> {
        Some(format!("{value:?}"))
    }
}

/// A time in milliseconds, within bounds.
#[derive(Debug)]
pub struct Millis {
    /// The accepted numbers of milliseconds.
    pub within: RangeInclusive<u64>,
}

impl Millis {
    fn number(&self) -> Number<u64> {
        Number { name: "MS", within: self.within.clone() }
    }
}

impl Takes for Millis {
    type Value = Duration;

    fn kind(&self) -> ValueKind {
        self.number().kind()
    }

    fn accepts(&self) -> String {
        self.number().accepts()
    }

    fn read(&self, text: &str) -> Result<Duration, String> {
        self.number().read(text).map(Duration::from_millis)
    }

    fn show(&self, value: &Duration, _: Option<&str>) -> Option<String> {
        Some(value.as_millis().to_string())
    }
}
