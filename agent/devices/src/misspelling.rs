//! Distinguishes a damaged name from one that is only unknown.
//!
//! ```text
//! names of a protocol        one letter off ([`damage`])        event types, codes, topics
//! words of a mapping         one bit off ([`is_flipped`])       categories, keys of JSON
//! ```
//!
//! Devices and platforms have types that no table has, and those are left out by their names. A name that one damaged
//! letter separates from a known one is not such a type: it may have been an alarm, so its message is rejected, counted
//! and shown. Numbers are exempt, because neighbours of a number are numbers of their own.

/// Shortest name that is compared with others.
const LETTERS_MIN: usize = 2;
/// The same of names that are not ASCII.
const WIDE_LETTERS_MIN: usize = 3;

/// Why a name that is not among the known ones is damaged; `None`: it is only unknown.
pub fn damage<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    if !name.chars().all(is_of_name) {
        return Some(format!("{name:.40?} is no name"));
    }
    let near = known.into_iter().find(|known| is_near(name, known))?;
    Some(format!("{name:.40?} is not known, and nearly {near:?}"))
}

/// Whether names consist of such letters.
fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_' | '.' | '/' | ':' | '(' | ')')
}

/// Whether a word is another but for one flipped bit, for one letter that became none, or for its case. For words that people
/// and platforms choose, of which two can be one letter apart.
pub fn is_flipped(name: &str, known: &str) -> bool {
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return is_near(name, known);
    }
    let pairs = || name.bytes().zip(known.bytes());
    let bits = pairs().map(|(a, b)| (a.to_ascii_lowercase() ^ b.to_ascii_lowercase()).count_ones());
    // Numbers within words are numbers of their own: those of gates, cameras, lifts.
    let is_numbered = pairs().any(|(a, b)| a != b && a.is_ascii_digit() && b.is_ascii_digit());
    name.len() == known.len()
        && name.len() >= LETTERS_MIN
        && bits.sum::<u32>() <= 1
        && !is_numbered
        && known.chars().any(char::is_alphabetic)
}

/// Whether one letter was changed, added or lost; case does not matter.
pub fn is_near(name: &str, known: &str) -> bool {
    let least = match known.is_ascii() {
        true => LETTERS_MIN,
        false => WIDE_LETTERS_MIN,
    };
    let (length, known_length) = (name.chars().count(), known.chars().count());
    let is_word = known_length >= least && known.chars().any(char::is_alphabetic);
    if !is_word || length.abs_diff(known_length) > 1 {
        return false;
    }
    let is_same = |(one, other): &(char, char)| one.eq_ignore_ascii_case(other);
    let front = name.chars().zip(known.chars()).take_while(is_same).count();
    let back = name.chars().rev().zip(known.chars().rev());
    let back = back.take_while(is_same).count();
    front + back + 1 >= length.max(known_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_another_by_one_letter_and_no_more() {
        for name in [
            "FireWarnin",
            "FireWarningg",
            "GireWarning",
            "firewarminG",
            "FireWarning",
        ] {
            assert!(is_near(name, "FireWarning"), "{name}");
        }
        for (name, known) in [
            ("FireWarningInfo", "FireWarning"),
            ("FaceDetection", "FireDetection"),
            ("131589", "131588"),
            ("消防", "消费"),
            ("家庭暴力", "婚姻家庭"),
            ("BATTERY", "BATTERY DV"),
            ("", "io"),
            ("x", "y"),
        ] {
            assert!(!is_near(name, known), "{name}");
        }
    }

    #[test]
    fn a_word_with_a_flipped_bit_is_none_of_its_own() {
        for (name, known) in [
            ("fird", "FIRE"),
            ("Smoke", "smoke"),
            ("smokd", "smoke"),
            ("肻里", "邻里"),
            ("sm\u{fffd}ke", "smoke"),
        ] {
            assert!(is_flipped(name, known), "{name}");
        }
        for (name, known) in [
            ("BATTERY/DV", "BATTERY DV"),
            ("消防", "消费"),
            ("131589", "131588"),
            ("moke", "smoke"),
            ("cam3", "cam2"),
            ("2号门", "3号门"),
            ("A", "C"),
        ] {
            assert!(!is_flipped(name, known), "{name}");
        }
    }

    #[test]
    fn a_chinese_word_of_three_letters_is_near_by_one_of_them() {
        assert!(is_near("䮶庭暴力", "家庭暴力") && is_near("其它纠纷", "其他纠纷"));
    }

    #[test]
    fn what_is_no_name_is_damage_and_what_is_only_unknown_is_not() {
        for name in ["Fire{Warning", "a\u{fffd}b", "<x", "a\u{1}"] {
            let why = damage(name, []).expect(name);
            assert!(why.contains("is no name"), "{why}");
        }
        assert_eq!(damage("parkingDetection", ["firedetection"]), None);
        assert_eq!(damage("停车 (2)", ["firedetection"]), None);
        let why = damage("firedetectiom", ["vmd", "firedetection"]).expect("damage");
        assert!(why.contains("nearly \"firedetection\""), "{why}");
    }
}
