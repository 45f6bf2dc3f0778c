//! Answers in JSON: the service's default, and what every emulator speaks.
//!
//! Payloads are base64 texts, moments are seconds with a fraction. Quotes are searched and base64 is decoded with SIMD,
//! and neither keys nor values are copied before it is known what they are; a parser of the general kind looks at each
//! byte of the payloads twice.

use std::borrow::Cow;

use memchr::memchr2;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    Stop,
    document::{Child, Document, RecordFields, decimal_moment, moment, text},
};
use crate::types::Timestamp;

/// Containers inside each other in what is skipped.
const MAX_DEPTH: u32 = 64;

/// Between which two things reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    Members { first: bool },
    Records { first: bool },
    End,
}

impl Place {
    /// As [`super::cbor::Place::step`].
    pub(super) fn step(&mut self, input: &[u8], document: &mut Document) -> Result<usize, Stop> {
        let mut scanner = Scanner::new(input);
        *self = match *self {
            Self::Start => {
                scanner.expect(b'{', "the answer is not an object")?;
                Self::Members { first: true }
            }
            Self::Members { first } => match scanner.following(b'}', first)? {
                false => Self::End,
                true => member(&mut scanner, document)?,
            },
            Self::Records { first } => match scanner.following(b']', first)? {
                false => Self::Members { first: false },
                true => {
                    let fields = record(&mut scanner)?;
                    document.records.push(fields)?;
                    Self::Records { first: false }
                }
            },
            Self::End => match scanner.peek() {
                Ok(_) => return Err(Stop::malformed("bytes follow its end")),
                Err(_) if input.is_empty() => return Err(Stop::Incomplete),
                // White space.
                Err(_) => Self::End,
            },
        };
        Ok(scanner.at)
    }
}

fn member(scanner: &mut Scanner<'_>, document: &mut Document) -> Result<Place, Stop> {
    let name = scanner.name()?;
    match &*name {
        b"Records" => {
            if scanner.null()? {
                return Ok(Place::Members { first: false });
            }
            scanner.expect(b'[', "Records is not a list")?;
            return Ok(Place::Records { first: true });
        }
        b"NextShardIterator" => document.next_iterator = scanner.optional_text()?,
        b"ContinuationSequenceNumber" => document.continuation = scanner.optional_text()?,
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        b"MillisBehindLatest" => document.millis_behind_latest = scanner.optional_number()?.map(|millis| millis as i64),
        b"ChildShards" => document.child_shards = scanner.parsed::<Option<Vec<Child>>>()?.unwrap_or_default(),
        // An error has these.
        b"__type" => document.error_code = scanner.optional_text()?,
        b"message" | b"Message" => document.error_message = scanner.optional_text()?,
        _ => {
            scanner.parsed::<IgnoredAny>()?;
        }
    }
    Ok(Place::Members { first: false })
}

fn record<'a>(scanner: &mut Scanner<'a>) -> Result<RecordFields<'a>, Stop> {
    let mut fields = RecordFields::in_base64();
    scanner.expect(b'{', "a record is not an object")?;
    let mut first = true;
    while scanner.following(b'}', first)? {
        first = false;
        let name = scanner.name()?;
        match &*name {
            b"SequenceNumber" => fields.set_sequence_number(&scanner.string()?)?,
            b"Data" => fields.data = Some(scanner.string()?),
            b"PartitionKey" if scanner.null()? => {}
            b"PartitionKey" => fields.partition_key = scanner.string()?,
            b"ApproximateArrivalTimestamp" => fields.arrival = scanner.optional_moment()?,
            b"EncryptionType" if scanner.null()? => {}
            b"EncryptionType" => fields.set_encryption(&scanner.string()?),
            _ => {
                scanner.parsed::<IgnoredAny>()?;
            }
        }
    }
    Ok(fields)
}

fn number(written: &[u8]) -> Result<f64, Stop> {
    let number = std::str::from_utf8(written).ok().filter(|_| !written[0].is_ascii_alphabetic()).and_then(|text| text.parse().ok());
    number.ok_or(Stop::malformed("a number is something else"))
}

/// Finds where things begin and end.
struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Result<u8, Stop> {
        while let Some(byte) = self.input.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(Stop::Incomplete)
    }

    fn expect(&mut self, byte: u8, defect: &'static str) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::malformed(defect));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether another item follows in a container, or its `end`.
    fn following(&mut self, end: u8, first: bool) -> Result<bool, Stop> {
        match self.peek()? {
            byte if byte == end => {
                self.at += 1;
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(Stop::malformed("a comma is missing")),
        }
    }

    fn name(&mut self) -> Result<Cow<'a, [u8]>, Stop> {
        let name = self.string()?;
        self.expect(b':', "a colon is missing")?;
        Ok(name)
    }

    /// A text without its quotes.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Stop> {
        self.expect(b'"', "a text is something else")?;
        let start = self.at;
        let escaped = self.rest_of_string()?;
        let inside = &self.input[start..self.at - 1];
        if !escaped {
            return Ok(Cow::Borrowed(inside));
        }
        let whole: String =
            serde_json::from_slice(&self.input[start - 1..self.at]).map_err(|_| Stop::malformed("a text has a wrong escape"))?;
        Ok(Cow::Owned(whole.into_bytes()))
    }

    /// Goes behind the closing quote, and says whether anything was escaped.
    fn rest_of_string(&mut self) -> Result<bool, Stop> {
        let mut escaped = false;
        loop {
            let found = memchr2(b'"', b'\\', &self.input[self.at..]).ok_or(Stop::Incomplete)?;
            self.at += found + 1;
            if self.input[self.at - 1] == b'"' {
                return Ok(escaped);
            }
            escaped = true;
            // What is escaped may be a quote.
            if self.at >= self.input.len() {
                return Err(Stop::Incomplete);
            }
            self.at += 1;
        }
    }

    /// Numbers and words end where something else begins.
    fn scalar(&mut self) -> Result<&'a [u8], Stop> {
        self.peek()?;
        let rest = &self.input[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().position(|byte| !is_part(byte)).ok_or(Stop::Incomplete)?;
        if length == 0 {
            return Err(Stop::malformed("a value is missing"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Takes a null, if that is what follows.
    fn null(&mut self) -> Result<bool, Stop> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        if self.scalar()? == b"null" { Ok(true) } else { Err(Stop::malformed("a value is no value of JSON")) }
    }

    fn optional_text(&mut self) -> Result<Option<String>, Stop> {
        if self.null()? {
            return Ok(None);
        }
        Ok(Some(text(&self.string()?)?.to_owned()))
    }

    fn optional_number(&mut self) -> Result<Option<f64>, Stop> {
        if self.null()? {
            return Ok(None);
        }
        number(self.scalar()?).map(Some)
    }

    fn optional_moment(&mut self) -> Result<Option<Timestamp>, Stop> {
        if self.null()? {
            return Ok(None);
        }
        let written = self.scalar()?;
        match decimal_moment(written) {
            Some(at) => Ok(Some(at)),
            None => number(written).map(moment),
        }
    }

    /// A value of whatever form, read by the general parser.
    fn parsed<T: DeserializeOwned>(&mut self) -> Result<T, Stop> {
        self.peek()?;
        let start = self.at;
        self.pass_over()?;
        serde_json::from_slice(&self.input[start..self.at]).map_err(|_| Stop::malformed("a member has the wrong form"))
    }

    /// Finds the end of a value by its brackets and quotes.
    fn pass_over(&mut self) -> Result<(), Stop> {
        let mut depth = 0_u32;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.rest_of_string()?;
                }
                b'{' | b'[' if depth == MAX_DEPTH => return Err(Stop::malformed("it is nested too deeply")),
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                }
                b'}' | b']' | b',' | b':' if depth == 0 => return Err(Stop::malformed("a value is missing")),
                b'}' | b']' => {
                    self.at += 1;
                    depth -= 1;
                }
                b',' | b':' => self.at += 1,
                _ => drop(self.scalar()?),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
