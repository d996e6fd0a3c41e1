//! Inputs: requests that are right, broken in the ways that break servers. Deterministic.

/// SplitMix64: small, and every seed is as good as any other.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, number: u64) -> Random {
        let mut random = Random(seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407));
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Requests to begin with.
const SEEDS: [&[u8]; 14] = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
    b"PUT /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"DELETE /d HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n",
    b"BREW /pot HTTP/1.1\r\nHost: h\r\nX-Long: abcdefghijklmnopqrstuvwxyz0123456789\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\nGET /skip HTTP/1.1\r\nHost: h\r\n\r\n",
];

/// Pieces that change what a request means.
const WORDS: [&[u8]; 48] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b":",
    b";",
    b",",
    b"0\r\n\r\n",
    b"0",
    b"1",
    b"5\r\nhello\r\n",
    b"+5",
    b"-1",
    b"0x5",
    b"5, 5",
    b"100000000000",
    b"18446744073709551616",
    b"fffffffffffffffff",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length : 5\r\n",
    b"content-length:5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tchunked \r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Host: other\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: 200-ok\r\n",
    b" folded: value\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/1.9",
    b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    b"X: y\r\n",
    b"chunked",
];

/// One input: up to four requests behind each other, then up to six changes.
pub fn input(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..=random.below(4) {
        input.extend_from_slice(random.pick(&SEEDS));
    }
    if random.below(16) == 0 {
        let filler = b"x".repeat(random.below(700));
        splice(random, &mut input, &filler, 0);
    }
    for _ in 0..random.below(7) {
        change(random, &mut input);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>) {
    match random.below(9) {
        0 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        1 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = random.next() as u8;
        }
        2 => {
            let count = random.below(4);
            splice(random, input, b"", count);
        }
        3 => {
            let count = random.below(40);
            splice(random, input, b"", count);
        }
        4 if !input.is_empty() => {
            let start = random.below(input.len());
            let end = (start + random.below(40)).min(input.len());
            let copy = input[start..end].to_vec();
            splice(random, input, &copy, 0);
        }
        5 => {
            let end = random.below(input.len() + 1);
            input.truncate(end);
        }
        6 => insert_line(random, input),
        _ => {
            let word = random.pick(&WORDS);
            let count = random.below(2) * random.below(6);
            splice(random, input, word, count);
        }
    }
}

/// Puts a word where a line begins, where it does most harm.
fn insert_line(random: &mut Random, input: &mut Vec<u8>) {
    let starts: Vec<usize> = (1..input.len()).filter(|at| input[at - 1] == b'\n').collect();
    if !starts.is_empty() {
        let at = starts[random.below(starts.len())];
        let word = random.pick(&WORDS);
        input.splice(at..at, word.iter().copied());
    }
}

/// Replaces `count` bytes somewhere by `with`.
fn splice(random: &mut Random, input: &mut Vec<u8>, with: &[u8], count: usize) {
    let at = random.below(input.len() + 1);
    let end = (at + count).min(input.len());
    input.splice(at..end, with.iter().copied());
}

/// The input in pieces, some of them single bytes.
pub fn cuts<'a>(random: &mut Random, input: &'a [u8]) -> Vec<&'a [u8]> {
    let largest = random.below(64);
    let size = 1 + random.below(1 + largest);
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((1 + random.below(size)).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}
