//! Text of devices and exports: UTF-8, else GB18030. Headers lie about it, so the bytes decide.
use std::borrow::Cow;

/// The text of these bytes; `None` if they are neither.
pub fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Cow::Borrowed(text)),
        Err(_) => encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn utf8_gb18030_and_neither() {
        assert_eq!(decode("邻里".as_bytes()).as_deref(), Some("邻里"));
        assert_eq!(decode(b"\xef\xbb\xbfa").as_deref(), Some("a"));
        assert_eq!(decode(b"\xc1\xda\xc0\xef").as_deref(), Some("邻里"));
        assert_eq!(decode(b"\xff\xff\xff"), None);
    }
}
