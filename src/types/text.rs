//! Shared behaviour of the ids: validated once, cheap to clone, ordered by their text.

/// Error of parsing an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {reason}")]
pub struct InvalidText {
    pub(crate) what: &'static str,
    pub(crate) value: String,
    pub(crate) reason: &'static str,
}

impl InvalidText {
    pub(crate) fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        // A hostile value must not fill the log.
        let value = value.chars().take(256).collect();
        Self { what, value, reason }
    }
}

/// Checks a name made of `[a-zA-Z0-9_.-]`, as Kinesis defines stream names and shard ids.
pub(crate) fn check_name(what: &'static str, value: &str, max_len: usize) -> Result<(), InvalidText> {
    if value.is_empty() {
        return Err(InvalidText::new(what, value, "it is empty"));
    }
    if value.len() > max_len {
        return Err(InvalidText::new(what, value, "it is too long"));
    }
    if !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(InvalidText::new(what, value, "allowed are letters, digits, '_', '.' and '-'"));
    }
    Ok(())
}

/// Declares a validated text newtype: `Arc<str>` inside, `FromStr`, `Display`, serde and ordering by text.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, |$value:ident| $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Validates and wraps `value`.
            ///
            /// # Errors
            /// Names the value and what is wrong with it.
            pub fn new(value: impl AsRef<str>) -> Result<Self, $crate::types::InvalidText> {
                let $value = value.as_ref();
                let check: Result<(), $crate::types::InvalidText> = $check;
                check?;
                Ok(Self($value.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::types::InvalidText;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::types::InvalidText;
            fn try_from(s: String) -> Result<Self, Self::Error> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(crate) use text_id;
