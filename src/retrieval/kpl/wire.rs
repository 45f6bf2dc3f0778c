//! As much of the [protocol buffers wire format](https://protobuf.dev/programming-guides/encoding/) as aggregates need.
//!
//! Nothing is believed but bytes that are there: a length is checked against them before it is used, and nothing is
//! allocated or nested. Fields of unknown numbers are read over; groups, which nobody writes any more, are refused.

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no field of an aggregate has.
    Fixed,
}

/// The fields of one message: number and value, in the order of the bytes. Ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

/// Largest field number, 2^29 - 1.
const MAX_NUMBER: u64 = (1 << 29) - 1;

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if !(1..=MAX_NUMBER).contains(&number) {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_is_no_message_is_refused() {
        let read = |bytes: &[u8]| -> Result<usize, Malformed> { Fields::of(bytes).try_fold(0, |n, field| field.map(|_| n + 1)) };
        for (name, bytes, expected) in [
            ("nothing", &[][..], Ok(0)),
            ("a number", &[0x08, 0x96, 0x01], Ok(1)),
            ("the largest number", &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(1)),
            ("a number beyond 64 bits", &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Malformed)),
            ("an endless number", &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Err(Malformed)),
            ("a number cut off", &[0x08, 0x96], Err(Malformed)),
            ("text", &[0x0a, 0x02, b'a', b'b'], Ok(1)),
            ("text cut off", &[0x0a, 0x03, b'a', b'b'], Err(Malformed)),
            ("an enormous length", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Err(Malformed)),
            ("fixed widths", &[0x0d, 1, 2, 3, 4, 0x09, 1, 2, 3, 4, 5, 6, 7, 8], Ok(2)),
            ("a fixed width cut off", &[0x0d, 1, 2, 3], Err(Malformed)),
            ("field number 0", &[0x00, 0x01], Err(Malformed)),
            ("a field number beyond 29 bits", &[0x80, 0x80, 0x80, 0x80, 0x10, 0x01], Err(Malformed)),
            ("a group", &[0x0b, 0x0c], Err(Malformed)),
            ("an unknown kind", &[0x0e], Err(Malformed)),
        ] {
            assert_eq!(read(bytes), expected, "{name}");
        }
        assert_eq!(Fields::of(&[0x08, 0x96, 0x01]).next(), Some(Ok((1, Value::Varint(150)))));
        assert_eq!(Fields::of(&[0x1a, 0x01, b'x']).next(), Some(Ok((3, Value::Bytes(b"x")))));
    }
}
