//! JSON in a form: some platforms post `data=%7B…%7D` and declare it a form, JSON, or nothing
//! (URL Standard, § 5, application/x-www-form-urlencoded).
use linli_devices::text;
use percent_encoding::percent_decode_str;

/// The JSON in the fields of a form, one document a line. `None`: the body is no such form.
pub fn json(body: &str) -> Option<String> {
    // JSON that is not encoded is read behind whatever stands before it.
    if body.contains(['{', '[']) {
        return None;
    }
    let fields = body.trim().split('&');
    let values = fields.filter_map(|field| {
        let (_, value) = field.split_once('=')?;
        let spaced = value.replace('+', " ");
        let decoded: Vec<u8> = percent_decode_str(&spaced).collect();
        let value = text::lossy(&decoded);
        let is_json = value.trim_start().starts_with(['{', '[']);
        is_json.then(|| value.into_owned())
    });
    let documents: Vec<String> = values.collect();
    (!documents.is_empty()).then(|| documents.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_forms_is_read_in_every_encoding() {
        for (body, expected) in [
            ("data=%7B%22id%22%3A1%7D", r#"{"id":1}"#),
            ("jsonData=%7b%22n%22:%22a+b%22%7d&sign=3f", r#"{"n":"a b"}"#),
            ("a=%7B%22id%22:1%7D&b=%5b2%5D", "{\"id\":1}\n[2]"),
            // 东门 in UTF-8 and in GB18030.
            (
                "d=%7B%22n%22%3A%22%E4%B8%9C%E9%97%A8%22%7D",
                r#"{"n":"东门"}"#,
            ),
            ("d=%7B%22n%22%3A%22%B6%AB%C3%C5%22%7D", r#"{"n":"东门"}"#),
        ] {
            assert_eq!(json(body).as_deref(), Some(expected), "{body}");
        }
        for body in [
            "{\"a\":\"b={\"}",
            " [1]",
            "door=open&id=7",
            "",
            "=",
            "%7B%7D",
            r#"data={"u":"h?a=1&b=%7B2"}"#,
        ] {
            assert_eq!(json(body), None, "{body}");
        }
    }
}
