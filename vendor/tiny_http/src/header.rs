//! Header fields. These types can't hold CR or LF in a value, or a name that isn't a token, because each constructor checks
//! it. So an answer can't be split by its fields. Plain values, any thread.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// One header field of a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, compared without case.
    pub field: HeaderField,
    /// The value, without surrounding whitespace.
    pub value: HeaderValue,
}

/// A field name: a token (RFC 9110, 5.6.2).
#[derive(Clone, Debug, Eq)]
pub struct HeaderField(String);

/// A field value: UTF-8 text without control characters other than tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(String);

/// For each byte, whether it may occur in a token. A table, because each byte of each name is checked.
const TOKEN_BYTES: [bool; 256] = {
    let (mut table, others) = ([false; 256], b"!#$%&'*+-.^_`|~");
    let mut i = 0;
    while i < 256 {
        table[i] = (i as u8).is_ascii_alphanumeric();
        i += 1;
    }
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether `byte` may occur in a token.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// Whether `byte` may occur in a field value.
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

impl Header {
    /// Builds a header from a name and a value. `Err(())` when the name is no token, or the value holds a control
    /// character (CR, LF and NUL among them) or isn't UTF-8.
    ///
    /// ```
    /// use tiny_http::Header;
    /// assert!(Header::from_bytes("Content-Type", "text/event-stream").is_ok());
    /// assert!(Header::from_bytes("X-Split", "a\r\nSet-Cookie: b").is_err());
    /// ```
    #[allow(clippy::result_unit_err)]
    pub fn from_bytes<B1, B2>(field: B1, value: B2) -> Result<Header, ()>
    where
        B1: Into<Vec<u8>> + AsRef<[u8]>,
        B2: Into<Vec<u8>> + AsRef<[u8]>,
    {
        Ok(Header { field: HeaderField::from_bytes(field)?, value: HeaderValue::from_bytes(value)? })
    }
}

impl FromStr for Header {
    type Err = ();

    /// Reads `Name: value`.
    fn from_str(line: &str) -> Result<Header, ()> {
        let (field, value) = line.split_once(':').ok_or(())?;
        Header::from_bytes(field, value.trim())
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.value)
    }
}

impl HeaderField {
    /// Builds a field name; `Err(())` when it is no token.
    #[allow(clippy::result_unit_err)]
    pub fn from_bytes<B: Into<Vec<u8>> + AsRef<[u8]>>(name: B) -> Result<HeaderField, ()> {
        let bytes = name.as_ref();
        if bytes.is_empty() || !bytes.iter().copied().all(is_token_byte) {
            return Err(());
        }
        String::from_utf8(name.into()).map(HeaderField).map_err(|_| ())
    }

    /// The name as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the field `name`, ignoring case.
    pub fn equiv(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl FromStr for HeaderField {
    type Err = ();

    fn from_str(name: &str) -> Result<HeaderField, ()> {
        HeaderField::from_bytes(name)
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for HeaderField {
    fn eq(&self, other: &HeaderField) -> bool {
        self.equiv(&other.0)
    }
}

impl HeaderValue {
    /// Builds a field value; `Err(())` when it holds a control character or isn't UTF-8.
    #[allow(clippy::result_unit_err)]
    pub fn from_bytes<B: Into<Vec<u8>> + AsRef<[u8]>>(value: B) -> Result<HeaderValue, ()> {
        if !value.as_ref().iter().copied().all(is_value_byte) {
            return Err(());
        }
        String::from_utf8(value.into()).map(HeaderValue).map_err(|_| ())
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for HeaderValue {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for HeaderValue {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for HeaderValue {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_splits_an_answer_can_be_built() {
        for value in ["a\rb", "a\nb", "a\0b", "a\x7fb"] {
            assert!(Header::from_bytes("X", value).is_err(), "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r", "é"] {
            assert!(Header::from_bytes(name, "v").is_err(), "{name:?}");
        }
        assert!(Header::from_bytes("X", [0xff, 0xfe]).is_err(), "not UTF-8");
        assert_eq!("Content-Type:  a/b ".parse::<Header>().unwrap().to_string(), "Content-Type: a/b");
        assert!(HeaderField::from_str("HOST").unwrap().equiv("host"));
    }
}
