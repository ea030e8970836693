//! An argument of a statement of the state.

/// An argument. The engine needs the type of a null too.
#[derive(Debug, Clone, PartialEq)]
pub enum StatementArgument {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! argument_from {
    ($type:ty, $variant:ident, $into:expr) => {
        impl From<$type> for StatementArgument {
            fn from(value: $type) -> Self {
                Self::$variant(Some($into(value)))
            }
        }
        impl From<Option<$type>> for StatementArgument {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map($into))
            }
        }
    };
}
argument_from!(&str, Text, str::to_owned);
argument_from!(&String, Text, String::clone);
argument_from!(String, Text, String::from);
argument_from!(i64, Integer, i64::from);
argument_from!(&[u8], Bytes, <[u8]>::to_vec);
argument_from!(Vec<u8>, Bytes, Vec::from);
argument_from!(&Vec<u8>, Bytes, Vec::clone);
