//! Answers in CBOR ([RFC 8949](https://www.rfc-editor.org/rfc/rfc8949)), as the service gives them to the SDK for Java.
//!
//! | | on the wire |
//! |---|---|
//! | payloads | byte strings |
//! | moments | whole milliseconds since the epoch, with or without tag 1 |
//! | maps, lists, texts | of known length, or until a break |

use std::borrow::Cow;

use super::{
    Stop,
    document::{Child, Document, RecordFields, text},
};
use crate::types::Timestamp;

/// Containers inside each other in what is skipped.
const MAX_DEPTH: usize = 32;
const INDEFINITE: u8 = 31;
const BREAK: u8 = 0xff;
const NULL: u8 = 0xf6;
const UNDEFINED: u8 = 0xf7;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// What is still to come of a container; `None` is until a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left(Option<u64>);

/// Between which two items reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    Members(Left),
    Records { members: Left, records: Left },
    End,
}

impl Place {
    /// Reads the next thing that makes sense alone: a record, or a member that is not the list of records. Answers how
    /// many bytes it had, and moves on.
    pub(super) fn step(&mut self, input: &[u8], document: &mut Document) -> Result<usize, Stop> {
        let mut reader = Reader::new(input);
        *self = match *self {
            Self::Start => Self::Members(reader.container(MAP, "the answer is not a map")?),
            Self::Members(members) => match reader.following(members)? {
                None => Self::End,
                Some(members) => member(&mut reader, members, document)?,
            },
            Self::Records { members, records } => match reader.following(records)? {
                None => Self::Members(members),
                Some(records) => {
                    let fields = record(&mut reader)?;
                    document.records.push(fields)?;
                    Self::Records { members, records }
                }
            },
            Self::End if input.is_empty() => return Err(Stop::Incomplete),
            Self::End => return Err(Stop::malformed("bytes follow its end")),
        };
        Ok(reader.at)
    }
}

fn member(reader: &mut Reader<'_>, members: Left, document: &mut Document) -> Result<Place, Stop> {
    let name = reader.text()?;
    match &*name {
        b"Records" => {
            if reader.null()? {
                return Ok(Place::Members(members));
            }
            let records = reader.container(ARRAY, "Records is not a list")?;
            // What is announced is not believed beyond what a call may return.
            document.records.expect(records.0.unwrap_or(0));
            return Ok(Place::Records { members, records });
        }
        b"NextShardIterator" => document.next_iterator = reader.optional_text()?,
        b"ContinuationSequenceNumber" => document.continuation = reader.optional_text()?,
        b"MillisBehindLatest" => document.millis_behind_latest = reader.optional_number()?.map(Number::whole),
        b"ChildShards" => document.child_shards = reader.list_of(child)?,
        // An error has these.
        b"__type" => document.error_code = reader.optional_text()?,
        b"message" | b"Message" => document.error_message = reader.optional_text()?,
        _ => reader.skip()?,
    }
    Ok(Place::Members(members))
}

fn record<'a>(reader: &mut Reader<'a>) -> Result<RecordFields<'a>, Stop> {
    let mut fields = RecordFields::default();
    let mut members = reader.container(MAP, "a record is not a map")?;
    while let Some(left) = reader.following(members)? {
        members = left;
        let name = reader.text()?;
        match &*name {
            b"SequenceNumber" => fields.set_sequence_number(&reader.text()?)?,
            b"Data" => fields.data = Some(reader.string(BYTES, "a payload is not a byte string")?),
            b"PartitionKey" if reader.null()? => {}
            b"PartitionKey" => fields.partition_key = reader.text()?,
            b"ApproximateArrivalTimestamp" => fields.arrival = reader.optional_number()?.and_then(Number::moment),
            b"EncryptionType" if reader.null()? => {}
            b"EncryptionType" => fields.set_encryption(&reader.text()?),
            _ => reader.skip()?,
        }
    }
    Ok(fields)
}

fn child(reader: &mut Reader<'_>) -> Result<Child, Stop> {
    let mut child = Child::default();
    let mut members = reader.container(MAP, "a child shard is not a map")?;
    while let Some(left) = reader.following(members)? {
        members = left;
        let name = reader.text()?;
        match &*name {
            b"ShardId" => child.shard_id = reader.optional_text()?.unwrap_or_default(),
            b"ParentShards" => child.parent_shards = reader.list_of(|reader| Ok(text(&reader.text()?)?.to_owned()))?,
            b"HashKeyRange" => {
                let mut members = reader.container(MAP, "a hash key range is not a map")?;
                while let Some(left) = reader.following(members)? {
                    members = left;
                    let name = reader.text()?;
                    match &*name {
                        b"StartingHashKey" => child.hash_key_range.starting_hash_key = reader.optional_text()?.unwrap_or_default(),
                        b"EndingHashKey" => child.hash_key_range.ending_hash_key = reader.optional_text()?.unwrap_or_default(),
                        _ => reader.skip()?,
                    }
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(child)
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i64),
    Fraction(f64),
}

impl Number {
    fn whole(self) -> i64 {
        match self {
            Self::Whole(n) => n,
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            Self::Fraction(n) => n as i64,
        }
    }

    fn moment(self) -> Option<Timestamp> {
        match self {
            Self::Whole(n) => Some(super::document::whole_moment(n)),
            Self::Fraction(n) => super::document::moment(n),
        }
    }
}

/// Reads items of CBOR from the beginning of a buffer.
struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.input.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.at..];
        let count = usize::try_from(count).ok().filter(|count| *count <= rest.len()).ok_or(Stop::Incomplete)?;
        self.at += count;
        Ok(&rest[..count])
    }

    /// The head of an item: its kind, what its first byte says of its argument, and the argument.
    fn head(&mut self) -> Result<(u8, u8, u64), Stop> {
        let first = self.peek()?;
        self.at += 1;
        let (major, info) = (first >> 5, first & 31);
        let argument = match info {
            0..=23 => u64::from(info),
            24 => u64::from(self.take(1)?[0]),
            25 => self.take(2)?.try_into().map(u16::from_be_bytes).map(u64::from).unwrap_or_default(),
            26 => self.take(4)?.try_into().map(u32::from_be_bytes).map(u64::from).unwrap_or_default(),
            27 => self.take(8)?.try_into().map(u64::from_be_bytes).unwrap_or_default(),
            INDEFINITE if matches!(major, BYTES | TEXT | ARRAY | MAP | SIMPLE) => 0,
            _ => return Err(Stop::malformed("it has a reserved head")),
        };
        Ok((major, info, argument))
    }

    fn container(&mut self, kind: u8, defect: &'static str) -> Result<Left, Stop> {
        match self.head()? {
            (major, INDEFINITE, _) if major == kind => Ok(Left(None)),
            (major, _, count) if major == kind => Ok(Left(Some(count))),
            _ => Err(Stop::malformed(defect)),
        }
    }

    /// Whether another item follows in a container, and what is left after it.
    fn following(&mut self, left: Left) -> Result<Option<Left>, Stop> {
        match left.0 {
            Some(0) => Ok(None),
            Some(count) => Ok(Some(Left(Some(count - 1)))),
            None if self.peek()? == BREAK => {
                self.at += 1;
                Ok(None)
            }
            None => Ok(Some(left)),
        }
    }

    /// A text or byte string; one in pieces is put together.
    fn string(&mut self, kind: u8, defect: &'static str) -> Result<Cow<'a, [u8]>, Stop> {
        let (major, info, length) = self.head()?;
        if major != kind {
            return Err(Stop::malformed(defect));
        }
        if info != INDEFINITE {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while self.following(Left(None))?.is_some() {
            match self.head()? {
                (major, info, length) if major == kind && info != INDEFINITE => whole.extend_from_slice(self.take(length)?),
                _ => return Err(Stop::malformed("a string in pieces has a piece of another kind")),
            }
        }
        Ok(Cow::Owned(whole))
    }

    fn text(&mut self) -> Result<Cow<'a, [u8]>, Stop> {
        self.string(TEXT, "a text is something else")
    }

    /// Takes a null, if that is what follows.
    fn null(&mut self) -> Result<bool, Stop> {
        let null = matches!(self.peek()?, NULL | UNDEFINED);
        self.at += usize::from(null);
        Ok(null)
    }

    fn optional_text(&mut self) -> Result<Option<String>, Stop> {
        if self.null()? {
            return Ok(None);
        }
        Ok(Some(text(&self.text()?)?.to_owned()))
    }

    fn optional_number(&mut self) -> Result<Option<Number>, Stop> {
        if self.null()? {
            return Ok(None);
        }
        let (mut major, mut info, mut argument) = self.head()?;
        if major == TAG {
            (major, info, argument) = self.head()?;
        }
        let whole = i64::try_from(argument).unwrap_or(i64::MAX);
        match (major, info) {
            (UNSIGNED, _) => Ok(Some(Number::Whole(whole))),
            (NEGATIVE, _) => Ok(Some(Number::Whole(-1 - whole))),
            #[expect(clippy::cast_possible_truncation, reason = "the argument has four bytes")]
            (SIMPLE, 26) => Ok(Some(Number::Fraction(f64::from(f32::from_bits(argument as u32))))),
            (SIMPLE, 27) => Ok(Some(Number::Fraction(f64::from_bits(argument)))),
            _ => Err(Stop::malformed("a number is something else")),
        }
    }

    fn list_of<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Stop>) -> Result<Vec<T>, Stop> {
        let mut items = Vec::new();
        if self.null()? {
            return Ok(items);
        }
        let mut left = self.container(ARRAY, "a list is something else")?;
        while let Some(after) = self.following(left)? {
            left = after;
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Passes over an item, whatever it holds.
    fn skip(&mut self) -> Result<(), Stop> {
        // What is open, and how many items are still to come in each.
        let mut open = [Left(Some(0)); MAX_DEPTH];
        let mut depth = 0;
        loop {
            let (major, info, argument) = self.head()?;
            let enter = match (major, info) {
                (BYTES | TEXT, INDEFINITE) => {
                    self.at -= 1;
                    drop(self.string(major, "")?);
                    None
                }
                (BYTES | TEXT, _) => {
                    self.take(argument)?;
                    None
                }
                (ARRAY | MAP, INDEFINITE) => Some(Left(None)),
                (ARRAY, _) => Some(Left(Some(argument))),
                (MAP, _) => Some(Left(Some(argument.checked_mul(2).ok_or(Stop::malformed("a map is larger than memory"))?))),
                (TAG, _) => continue,
                (SIMPLE, INDEFINITE) => return Err(Stop::malformed("a break stands where nothing is open")),
                _ => None,
            };
            if let Some(left) = enter {
                *open.get_mut(depth).ok_or(Stop::malformed("it is nested too deeply"))? = left;
                depth += 1;
            }
            loop {
                let Some(innermost) = depth.checked_sub(1) else { return Ok(()) };
                match self.following(open[innermost])? {
                    None => depth = innermost,
                    Some(left) => {
                        open[innermost] = left;
                        break;
                    }
                }
            }
        }
    }
}

/// A `GetRecords` request.
pub(in crate::stream::aws) fn get_records(iterator: &str, limit: u32, stream_arn: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + iterator.len() + stream_arn.map_or(0, str::len));
    body.push(0xa2 + u8::from(stream_arn.is_some()));
    put_text(&mut body, "ShardIterator");
    put_text(&mut body, iterator);
    put_text(&mut body, "Limit");
    put_head(&mut body, UNSIGNED, u64::from(limit));
    if let Some(arn) = stream_arn {
        put_text(&mut body, "StreamARN");
        put_text(&mut body, arn);
    }
    body
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    put_head(body, TEXT, text.len() as u64);
    body.extend_from_slice(text.as_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "each arm bounds what it casts")]
fn put_head(body: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => body.push(major | argument as u8),
        24..=0xff => body.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            body.push(major | 25);
            body.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            body.push(major | 26);
            body.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            body.push(major | 27);
            body.extend_from_slice(&argument.to_be_bytes());
        }
    }
}
