//! Names of files. Pure. A name is accepted as it is or refused, never corrected.

/// The longest name, characters; and bytes, as file systems have it.
pub const CHARS_MAX: usize = 120;
const BYTES_MAX: usize = 255;

/// Names that Windows keeps for devices, whatever their ending.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error(
        "文件名应为 1 至 {CHARS_MAX} 个字 / a name has 1 to {CHARS_MAX} characters and at most {BYTES_MAX} bytes"
    )]
    Length,
    #[error(
        "文件名不能含路径或 < > : \" / \\ | ? * / a name has no part of a path in it, and none of < > : \" / \\ | ? *"
    )]
    Path,
    #[error(
        "文件名含控制字符或改变文字方向的字符 / a name has no control characters, and none that change the direction of text or are not seen"
    )]
    Unseen,
    #[error(
        "文件名不能以空格或点开头或结尾 / a name neither begins nor ends with a space or a dot"
    )]
    Edges,
    #[error("这是系统保留的名称 / this name is kept for a device")]
    Reserved,
    #[error(
        "文件名须有扩展名，如 照片.jpg / a name has an ending that says its type, like photo.jpg"
    )]
    Ending,
}

/// It changes how text is read, or is not seen at all.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Checks a name and returns its ending in lower case. Error: what is wrong.
pub fn check(name: &str) -> Result<String, BadName> {
    if name.is_empty() || name.chars().count() > CHARS_MAX || name.len() > BYTES_MAX {
        return Err(BadName::Length);
    }
    if name.chars().any(is_unseen) {
        return Err(BadName::Unseen);
    }
    if name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*']) {
        return Err(BadName::Path);
    }
    let at_edge = |letter: char| letter == '.' || letter.is_whitespace();
    if name.starts_with(at_edge) || name.ends_with(at_edge) {
        return Err(BadName::Edges);
    }
    let device = name.split('.').next().unwrap_or_default().trim_end();
    let device = device.to_lowercase();
    let numbered = |prefix: &str| {
        let number = device.strip_prefix(prefix);
        number.is_some_and(|number| number.chars().count() == 1 && !number.starts_with('0'))
            && device.ends_with(|letter: char| letter.is_numeric())
    };
    if RESERVED.contains(&device.as_str()) || numbered("com") || numbered("lpt") {
        return Err(BadName::Reserved);
    }
    match name.rsplit_once('.') {
        Some((_, ending)) => Ok(ending.to_lowercase()),
        None => Err(BadName::Ending),
    }
}

/// The masked name: its first character and its ending.
pub fn masked(name: &str) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let first: String = stem.chars().take(1).collect();
    format!("{first}**.{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_are_taken_and_names_that_do_harm_are_not() {
        for (name, ending) in [
            ("楼道照片 1.JPG", "jpg"),
            ("a.tar.pdf", "pdf"),
            ("协议（2026-03-01）.docx", "docx"),
            ("console.txt", "txt"),
            ("com10.txt", "txt"),
            ("é.png", "png"),
        ] {
            assert_eq!(check(name).as_deref(), Ok(ending), "{name:?}");
        }
        let long = format!("{}.jpg", "长".repeat(117));
        for (name, why) in [
            ("", BadName::Length),
            (long.as_str(), BadName::Length),
            ("../x.jpg", BadName::Path),
            ("a/b.jpg", BadName::Path),
            ("C:\\x.jpg", BadName::Path),
            ("a.jpg:stream", BadName::Path),
            ("a\0.jpg", BadName::Unseen),
            ("a\n.jpg", BadName::Unseen),
            ("照片\u{202e}gpj.exe", BadName::Unseen),
            ("a\u{200b}.jpg", BadName::Unseen),
            ("..", BadName::Edges),
            (".htaccess", BadName::Edges),
            ("a.jpg.", BadName::Edges),
            ("a.jpg ", BadName::Edges),
            ("NUL", BadName::Reserved),
            ("con.jpg", BadName::Reserved),
            ("Com1.jpg", BadName::Reserved),
            ("lpt9.tar.pdf", BadName::Reserved),
            ("照片", BadName::Ending),
        ] {
            assert_eq!(check(name), Err(why), "{name:?}");
        }
        assert_eq!(masked("王小明 身份证.jpg"), "王**.jpg");
    }
}
