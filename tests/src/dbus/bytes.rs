//! Bytes as a type of an address: what D-Bus carries as `ay`, read and written in one piece.

use std::fmt;

use postcard_schema::Schema;
use postcard_schema::schema::{DataModelType, NamedType};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Bytes that serde is told of as bytes; a `Vec<u8>` would be a sequence of single numbers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Schema for Bytes {
    const SCHEMA: &'static NamedType = &NamedType { name: "Bytes", ty: &DataModelType::ByteArray };
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_on_the_wire_what_a_sequence_of_bytes_is() {
        let bytes = Bytes(vec![1, 0, 255]);
        let wire = postcard::to_stdvec(&bytes).unwrap();
        assert_eq!(wire, postcard::to_stdvec(&bytes.0).unwrap());
        assert_eq!(postcard::from_bytes::<Bytes>(&wire).unwrap(), bytes);
    }
}
