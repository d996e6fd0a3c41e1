//! The chunked coding of request bodies, decoded as the bytes arrive. Pure; runs on the thread that owns the connection.
//! Stricter than the RFC in points on which all senders agree: no whitespace around sizes, no bare line endings.

use crate::fault::Fault;
use crate::header::{is_token_byte, is_value_byte};
use crate::intake::make_room;
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};

const MALFORMED: Fault = Fault::bad_request("the chunked body can't be read");
/// Most hex digits of a size: 2^60 bytes, above any limit and below overflow.
const SIZE_DIGITS_MAX: u32 = 15;

/// The position of the next byte in the coding. `ExtensionName` stands before an extension's name, which there must be.
#[derive(Clone, Copy, Debug)]
enum At {
    Size { digits: u32, size: usize },
    ExtensionName { size: usize },
    Extension { size: usize },
    SizeLf { size: usize },
    Data { left: usize },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { at: At::Size { digits: 0, size: 0 }, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Reads `input` up to the end of the body and appends the decoded bytes to `body`, which never grows beyond
    /// `body_bytes_max`. Returns how many bytes of `input` belong to the body.
    pub(crate) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>, body_bytes_max: usize) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < input.len() && !self.is_done() {
            if let At::Data { left } = self.at {
                let run = left.min(input.len() - taken);
                make_room(body, run, body_bytes_max);
                body.extend_from_slice(&input[taken..taken + run]);
                taken += run;
                self.at = if run == left { At::DataCr } else { At::Data { left: left - run } };
                continue;
            }
            self.at = self.step(input[taken])?;
            if matches!(self.at, At::Data { left } if left > body_bytes_max.saturating_sub(body.len())) {
                return Err(Fault::BODY_TOO_LARGE);
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Reads one byte of the coding around the data.
    fn step(&mut self, byte: u8) -> Result<At, Fault> {
        let malformed = Err(MALFORMED);
        Ok(match (self.at, byte) {
            (At::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return malformed;
                }
                let digit = char::from(byte).to_digit(16).map_or(0, |digit| digit as usize);
                At::Size { digits: digits + 1, size: size * 16 + digit }
            }
            (At::Size { digits: 1.., size }, b'\r') => At::SizeLf { size },
            (At::Size { digits: 1.., size }, b';') => At::ExtensionName { size },
            (At::ExtensionName { size }, b' ' | b'\t') => self.extension(At::ExtensionName { size })?,
            (At::ExtensionName { size }, _) if is_token_byte(byte) => self.extension(At::Extension { size })?,
            (At::Extension { size }, b'\r') => At::SizeLf { size },
            (At::Extension { size }, _) if is_value_byte(byte) => self.extension(At::Extension { size })?,
            (At::SizeLf { size: 0 }, b'\n') => At::TrailerStart,
            (At::SizeLf { size }, b'\n') => At::Data { left: size },
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { digits: 0, size: 0 },
            (At::TrailerStart, b'\r') => At::LastLf,
            (At::TrailerStart | At::TrailerName, _) if is_token_byte(byte) => self.trailer(At::TrailerName)?,
            (At::TrailerName, b':') => self.trailer(At::TrailerValue)?,
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerValue, _) if is_value_byte(byte) => self.trailer(At::TrailerValue)?,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::LastLf, b'\n') => At::Done,
            _ => return malformed,
        })
    }

    fn extension(&mut self, next: At) -> Result<At, Fault> {
        self.extension_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX { Err(MALFORMED) } else { Ok(next) }
    }

    fn trailer(&mut self, next: At) -> Result<At, Fault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(Fault::HEAD_TOO_LARGE) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `piece` bytes. Returns the body, and how many bytes of the input belong to it.
    fn decode(input: &[u8], piece: usize, max: usize) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let (mut decoder, mut body, mut taken) = (Decoder::new(), Vec::new(), 0);
        for part in input.chunks(piece) {
            taken += decoder.decode(part, &mut body, max).map_err(|fault| fault.status)?;
            if decoder.is_done() {
                return Ok(Some((body, taken)));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_body_is_the_same_however_it_is_cut() {
        let input = b"3\r\nabc\r\nA; x=\"y\"; z\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET /";
        for piece in 1..input.len() {
            let (body, taken) = decode(input, piece, 13).unwrap().unwrap();
            assert_eq!((body.as_slice(), taken), (b"abc0123456789".as_slice(), input.len() - 5));
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            " 3\r\nabc",
            "3 \r\nabc",
            "+3\r\nabc",
            "0x3\r\nabc",
            "-1\r\n",
            "3\nabc",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3;a\nb\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nno colon\r\n",
            "0\r\nT: a\nb",
            "0\r\n\n",
            ";\r\n",
            "3;\r\nabc",
            "3; \r\nabc",
            "3;=a\r\nabc",
            "FFFFFFFFFFFFFFFFF\r\n",
            "0000000000000000000\r\n",
        ] {
            assert_eq!(decode(input.as_bytes(), 64, 100), Err(400), "{input:?}");
        }
    }

    #[test]
    fn what_is_skipped_is_bounded() {
        assert_eq!(decode(b"4\r\nabcd\r\n", 64, 3), Err(413));
        assert_eq!(decode(b"2\r\nab\r\n2\r\ncd\r\n", 64, 3), Err(413));
        assert_eq!(decode(b"fffffffffffffff\r\n", 64, 3), Err(413));
        assert_eq!(decode(format!("1;{}", "x".repeat(5000)).as_bytes(), 64, 3), Err(400));
        assert_eq!(decode(format!("0\r\nT: {}", "x".repeat(9000)).as_bytes(), 64, 3), Err(431));
    }
}
