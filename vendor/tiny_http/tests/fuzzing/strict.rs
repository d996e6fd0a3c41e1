//! A second reading of HTTP/1.1 framing, written from the rules (RFC 9112 and what this crate promises beyond it) and not
//! from the server's code: the whole input at a time, line by line, with no state machine. Slow and plain, on purpose.

use std::ops::Range;

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The input ended within what may still become a request.
    More,
    /// What comes next can't be served.
    Bad,
    /// The last request closes the connection.
    Close,
}

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: usize,
    pub body: Vec<u8>,
    pub head: Range<usize>,
}

#[derive(Debug)]
pub struct Reading {
    pub requests: Vec<Request>,
    pub end: End,
}

pub fn read(input: &[u8], head_max: usize, fields_max: usize, body_max: usize) -> Reading {
    let (mut requests, mut at) = (Vec::new(), 0);
    loop {
        match read_one(input, at, head_max, fields_max, body_max) {
            Err(end) => return Reading { requests, end },
            Ok((request, next, keeps)) => {
                requests.push(request);
                at = next;
                if !keeps {
                    return Reading { requests, end: End::Close };
                }
            }
        }
    }
}

fn read_one(
    input: &[u8],
    at: usize,
    head_max: usize,
    fields_max: usize,
    body_max: usize,
) -> Result<(Request, usize, bool), End> {
    // One empty line may come first.
    let start = if input[at..].starts_with(b"\r\n") { at + 2 } else { at };
    let rest = &input[start..];
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4);
    let head = &rest[..end.unwrap_or(rest.len())];
    // A line that ends without CR, and a second empty line, are wrong even before the head is complete.
    if (0..head.len()).any(|place| head[place] == b'\n' && (place == 0 || head[place - 1] != b'\r')) {
        return Err(End::Bad);
    }
    if head.starts_with(b"\r\n") || head.len() > head_max {
        return Err(End::Bad);
    }
    let Some(end) = end else { return Err(End::More) };
    let text = &head[..end - 4];
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut place = 0;
    while place < text.len() {
        if text[place..].starts_with(b"\r\n") {
            lines.push(std::mem::take(&mut line));
            place += 2;
        } else {
            line.push(text[place]);
            place += 1;
        }
    }
    lines.push(line);
    if lines.iter().flatten().any(|byte| (*byte < 32 && *byte != 9) || *byte == 127) {
        return Err(End::Bad);
    }

    let words: Vec<&[u8]> = lines[0].split(|byte| *byte == 32).collect();
    let [method, target, version] = words[..] else { return Err(End::Bad) };
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(End::Bad),
    };
    if !is_token(method)
        || method == b"CONNECT"
        || target.is_empty()
        || !target.iter().all(|byte| (33..127).contains(byte))
    {
        return Err(End::Bad);
    }
    let lower_target = target.to_ascii_lowercase();
    let is_star = target == b"*" && method == b"OPTIONS";
    if !(target[0] == b'/' || lower_target.starts_with(b"http://") || lower_target.starts_with(b"https://") || is_star)
    {
        return Err(End::Bad);
    }

    let mut fields: Vec<(String, String)> = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(End::Bad)?;
        if !is_token(&line[..colon]) {
            return Err(End::Bad);
        }
        let name = String::from_utf8(line[..colon].to_ascii_lowercase()).map_err(|_| End::Bad)?;
        let value = std::str::from_utf8(&line[colon + 1..]).map_err(|_| End::Bad)?;
        fields.push((name, value.trim_matches([' ', '\t']).to_owned()));
    }
    if fields.len() > fields_max {
        return Err(End::Bad);
    }
    let all = |name: &str| -> Vec<String> {
        fields.iter().filter(|field| field.0 == name).map(|field| field.1.clone()).collect()
    };

    let hosts = all("host");
    let is_host = |host: &String| {
        host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._~%!$&'()*+;=:[]".contains(letter))
    };
    if hosts.len() > 1 || (hosts.is_empty() && !is_old) || !hosts.iter().all(is_host) {
        return Err(End::Bad);
    }
    let expectations = all("expect");
    let is_met = |expectation: &String| expectation.eq_ignore_ascii_case("100-continue");
    if !is_old && (expectations.len() > 1 || !expectations.iter().all(is_met)) {
        return Err(End::Bad);
    }

    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    let body_start = start + end;
    let (body, next) = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) if is_old && [b"POST".as_slice(), b"PUT", b"PATCH"].contains(&method) => return Err(End::Bad),
        ([], []) => (Vec::new(), body_start),
        ([length], []) => {
            if length.is_empty() || !length.chars().all(|letter| letter.is_ascii_digit()) {
                return Err(End::Bad);
            }
            let length: u128 = length.parse().unwrap_or(u128::MAX);
            if length > body_max as u128 {
                return Err(End::Bad);
            }
            let next = body_start + length as usize;
            if next > input.len() {
                return Err(End::More);
            }
            (input[body_start..next].to_vec(), next)
        }
        ([], [coding]) if !is_old && coding.eq_ignore_ascii_case("chunked") => chunks(input, body_start, body_max)?,
        _ => return Err(End::Bad),
    };

    let options: Vec<String> = all("connection")
        .iter()
        .flat_map(|value| {
            value.split(',').map(|option| option.trim_matches([' ', '\t']).to_ascii_lowercase()).collect::<Vec<_>>()
        })
        .collect();
    let has = |option: &str| options.iter().any(|known| known == option);
    let keeps = !has("close") && (!is_old || has("keep-alive"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request =
        Request { method: text(method), target: text(target), fields: fields.len(), body, head: start..body_start };
    Ok((request, next, keeps))
}

fn is_token(bytes: &[u8]) -> bool {
    let is_special = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || is_special(byte))
}

/// A cursor that runs out with [`End::More`].
struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u8, End> {
        let byte = *self.input.get(self.at).ok_or(End::More)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), End> {
        if self.next()? == wanted { Ok(()) } else { Err(End::Bad) }
    }
}

fn chunks(input: &[u8], at: usize, body_max: usize) -> Result<(Vec<u8>, usize), End> {
    let mut cursor = Cursor { input, at };
    let mut body = Vec::new();
    let mut extension_bytes = 0;
    loop {
        let mut digits = String::new();
        let after = loop {
            let byte = cursor.next()?;
            if !byte.is_ascii_hexdigit() {
                break byte;
            }
            digits.push(char::from(byte));
            if digits.len() > 15 {
                return Err(End::Bad);
            }
        };
        if digits.is_empty() {
            return Err(End::Bad);
        }
        match after {
            b'\r' => {}
            b';' => {
                let mut has_name = false;
                loop {
                    match cursor.next()? {
                        b'\r' if has_name => break,
                        byte if (byte < 32 && byte != 9) || byte == 127 => return Err(End::Bad),
                        byte if !has_name && ![b' ', b'\t'].contains(&byte) && !is_token(&[byte]) => {
                            return Err(End::Bad);
                        }
                        byte => {
                            has_name |= ![b' ', b'\t'].contains(&byte);
                            extension_bytes += 1;
                        }
                    }
                    if extension_bytes > 4096 {
                        return Err(End::Bad);
                    }
                }
            }
            _ => return Err(End::Bad),
        }
        cursor.expect(b'\n')?;
        let size = u64::from_str_radix(&digits, 16).map_err(|_| End::Bad)?;
        if size == 0 {
            trailers(&mut cursor)?;
            return Ok((body, cursor.at));
        }
        if body.len() as u64 + size > body_max as u64 {
            return Err(End::Bad);
        }
        for _ in 0..size {
            body.push(cursor.next()?);
        }
        cursor.expect(b'\r')?;
        cursor.expect(b'\n')?;
    }
}

fn trailers(cursor: &mut Cursor<'_>) -> Result<(), End> {
    let mut bytes = 0;
    loop {
        let mut name = Vec::new();
        loop {
            match cursor.next()? {
                b'\r' if name.is_empty() => return cursor.expect(b'\n'),
                b':' if !name.is_empty() => break,
                byte if is_token(&[byte]) => name.push(byte),
                _ => return Err(End::Bad),
            }
            bytes += 1;
            if bytes > 8192 {
                return Err(End::Bad);
            }
        }
        bytes += 1;
        loop {
            match cursor.next()? {
                b'\r' => break,
                byte if (byte < 32 && byte != 9) || byte == 127 => return Err(End::Bad),
                _ => bytes += 1,
            }
            if bytes > 8192 {
                return Err(End::Bad);
            }
        }
        cursor.expect(b'\n')?;
    }
}
