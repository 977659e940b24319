//! Values of XML as devices write it: text in pieces, letters by number, the five entities of XML. Nothing that a document
//! declares is expanded, so a value is never larger than its bytes. Pure.
use quick_xml::events::BytesRef;
use std::borrow::Cow;

use super::device_event::Reject;

/// What a document type is told.
pub fn doctype() -> Reject {
    Reject::new("XML has a document type, which no device needs and nothing here reads")
}

/// Adds a piece of text to a value, which borrows as long as it is the only one.
pub fn add<'a>(value: &mut Cow<'a, str>, text: Cow<'a, str>) {
    if value.is_empty() {
        *value = text;
    } else {
        value.to_mut().push_str(&text);
    }
}

/// A value without the white space around it.
pub fn trimmed(value: Cow<'_, str>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// The letter that a reference stands for; `None`: nobody but the document knows.
pub fn letter(reference: &BytesRef<'_>) -> Result<Option<char>, Reject> {
    match reference.resolve_char_ref() {
        Ok(Some(letter)) => Ok(Some(letter)),
        Ok(None) => {
            let known = quick_xml::escape::resolve_xml_entity(reference);
            Ok(known.and_then(|text| text.chars().next()))
        }
        Err(error) => Err(Reject::new(format!(
            "XML has a letter that is none: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_letters_or_nothing_and_never_what_a_document_declares() {
        let read = |name: &str| letter(&BytesRef::new(name));
        assert_eq!(read("amp"), Ok(Some('&')));
        assert_eq!(read("#37051"), Ok(Some('邻')));
        assert_eq!(read("#x90bb"), Ok(Some('邻')));
        assert_eq!(read("bomb"), Ok(None));
        assert!(read("#xffffffff").is_err() && read("#").is_err());
    }

    #[test]
    fn a_value_in_one_piece_borrows() {
        let mut value = Cow::default();
        add(&mut value, Cow::Borrowed(" a "));
        assert!(matches!(trimmed(value.clone()), Cow::Borrowed("a")));
        add(&mut value, Cow::Borrowed("b "));
        assert_eq!(trimmed(value), "a b");
    }
}
