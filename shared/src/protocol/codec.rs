//! The only module that uses `serde_cbor`. CBOR (RFC 8949) in its packed form: struct fields are integer keys
//! in their order of declaration, enum variants are integers. So fields and variants may only be appended; a
//! missing field takes its default, an unknown key is skipped.
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An error of encoding or decoding CBOR.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A value could not be encoded.
    #[error("encoding {what} as CBOR failed")]
    Encode {
        /// The type of the value.
        what: &'static str,
        /// The cause.
        #[source]
        source: serde_cbor::Error,
    },
    /// Bytes are not valid CBOR of this type.
    #[error("{what} is not valid CBOR of that type")]
    Decode {
        /// The expected type.
        what: &'static str,
        /// The cause.
        #[source]
        source: serde_cbor::Error,
    },
}

/// Appends the packed CBOR of `value` to `out`. Errors: [`CodecError`].
pub fn encode_into<T: Serialize>(
    what: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let mut serializer =
        serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(out)).packed_format();
    value
        .serialize(&mut serializer)
        .map_err(|source| CodecError::Encode { what, source })
}

/// The packed CBOR of `value`. Errors: [`CodecError`].
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(256);
    encode_into(what, value, &mut out)?;
    Ok(out)
}

/// Decodes exactly these bytes; bytes behind the value are an error. Errors: [`CodecError`].
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    serde_cbor::from_slice(bytes).map_err(|source| CodecError::Decode { what, source })
}

/// Decodes the consecutive values in these bytes, at most `count_max` of them. Errors: [`CodecError`].
pub fn decode_sequence<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    count_max: usize,
) -> Result<Vec<T>, CodecError> {
    let mut values = Vec::with_capacity(count_max.min(256));
    for value in serde_cbor::Deserializer::from_slice(bytes)
        .into_iter::<T>()
        .take(count_max + 1)
    {
        values.push(value.map_err(|source| CodecError::Decode { what, source })?);
    }
    Ok(values)
}
