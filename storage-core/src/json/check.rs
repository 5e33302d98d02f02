//! One pass over a text that says whether every store can keep it.
//!
//! `serde_json` alone cannot: its fast skipper takes lone surrogates and numbers beyond `f64`, and its typed readers pay
//! for values that nobody asked for. Grammar: RFC 8259.

use std::fmt;

/// The deepest nesting of arrays and objects: what `serde_json` decodes by default.
pub const MAX_DEPTH: usize = 127;

/// What is wrong, and at which byte. Never holds a part of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

const NOT_JSON: &str = "it is not JSON";
/// One bit a level says whether it is an object.
const _: () = assert!(MAX_DEPTH <= u128::BITS as usize);

/// Checks a whole text; no number in it may be spelled with more than `max_number` bytes.
pub(super) fn check(text: &str, max_number: usize) -> Result<(), Fault> {
    Checker { bytes: text.as_bytes(), text, max_number, at: 0, depth: 0, objects: 0 }.document()
}

/// The high bit of the first byte that is a quote, a backslash or a control character; those of later bytes may be wrong.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7)
}

struct Checker<'a> {
    bytes: &'a [u8],
    text: &'a str,
    max_number: usize,
    at: usize,
    depth: usize,
    objects: u128,
}

impl Checker<'_> {
    fn document(mut self) -> Result<(), Fault> {
        loop {
            if self.opened()? {
                continue;
            }
            if !self.closed()? {
                break;
            }
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(NOT_JSON),
        }
    }

    /// Reads a scalar, an empty container, or the opening of a container: true where a value must follow.
    fn opened(&mut self) -> Result<bool, Fault> {
        self.space();
        match self.peek() {
            Some(b'{') => self.open(true, b'}'),
            Some(b'[') => self.open(false, b']'),
            Some(b'"') => self.string().map(|()| false),
            Some(b't') => self.word("true").map(|()| false),
            Some(b'f') => self.word("false").map(|()| false),
            Some(b'n') => self.word("null").map(|()| false),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| false),
            _ => self.fault(NOT_JSON),
        }
    }

    fn open(&mut self, object: bool, end: u8) -> Result<bool, Fault> {
        self.at += 1;
        self.space();
        if self.peek() == Some(end) {
            // An empty container is as deep as its parent plus one.
            if self.depth >= MAX_DEPTH {
                return self.fault("it is nested deeper than 127 levels");
            }
            self.at += 1;
            return Ok(false);
        }
        if self.depth >= MAX_DEPTH {
            return self.fault("it is nested deeper than 127 levels");
        }
        self.depth += 1;
        self.objects = (self.objects << 1) | u128::from(object);
        if object {
            self.name()?;
        }
        Ok(true)
    }

    /// After a value: closes what ends here; true where another value must follow.
    fn closed(&mut self) -> Result<bool, Fault> {
        loop {
            self.space();
            if self.depth == 0 {
                return Ok(false);
            }
            let object = self.objects & 1 == 1;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if object {
                        self.space();
                        self.name()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ => return self.fault(NOT_JSON),
            }
            self.at += 1;
            self.depth -= 1;
            self.objects >>= 1;
        }
    }

    fn name(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return self.fault(NOT_JSON);
        }
        self.string()?;
        self.space();
        self.expect(b':')
    }

    #[inline(always)]
    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) | None => return self.fault(NOT_JSON),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Skips what stands for itself in a string, eight bytes at a time; the last few of a text are left to the caller.
    #[inline(always)]
    fn plain(&mut self) {
        let (words, _) = self.bytes.get(self.at..).unwrap_or_default().as_chunks();
        for word in words {
            let special = special_bytes(u64::from_le_bytes(*word));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                match self.hex()? {
                    0 => self.fault("a string holds a NUL character"),
                    0xd800..=0xdbff => self.low_surrogate(),
                    0xdc00..=0xdfff => self.fault("a string holds a lone surrogate"),
                    _ => Ok(()),
                }
            }
            _ => self.fault(NOT_JSON),
        }
    }

    fn low_surrogate(&mut self) -> Result<(), Fault> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u")) {
            return self.fault("a string holds a lone surrogate");
        }
        self.at += 2;
        match self.hex()? {
            0xdc00..=0xdfff => Ok(()),
            _ => self.fault("a string holds a lone surrogate"),
        }
    }

    fn hex(&mut self) -> Result<u16, Fault> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fault(NOT_JSON),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.take(b"-");
        if !self.take(b"0") && self.digits() == 0 {
            return self.fault(NOT_JSON);
        }
        let whole = self.at - start;
        if self.take(b".") && self.digits() == 0 {
            return self.fault(NOT_JSON);
        }
        if self.take(b"eE") {
            self.take(b"+-");
            if self.digits() == 0 {
                return self.fault(NOT_JSON);
            }
        }
        // 18 digits always fit an i64.
        if self.at - start == whole && whole <= 18 {
            return Ok(());
        }
        self.float(start)
    }

    /// A number that does not plainly fit an `i64` must be a finite `f64`, and not one that shrinks to zero.
    fn float(&mut self, start: usize) -> Result<(), Fault> {
        let spelling = self.text.get(start..self.at).unwrap_or_default();
        if spelling.len() > self.max_number {
            return self.fault("a number has more than 1,024 digits");
        }
        let mantissa = spelling.split(['e', 'E']).next().unwrap_or_default();
        let nonzero = mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
        match spelling.parse::<f64>() {
            Ok(float) if float.is_finite() && (float != 0.0) == nonzero => Ok(()),
            _ => self.fault("a number does not fit a 64-bit float"),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return self.fault(NOT_JSON);
        }
        self.at += word.len();
        Ok(())
    }

    #[inline(always)]
    fn space(&mut self) {
        while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, any_of: &[u8]) -> bool {
        let found = self.peek().is_some_and(|b| any_of.contains(&b));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(&[byte]) { Ok(()) } else { self.fault(NOT_JSON) }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { what, at: self.at })
    }
}
