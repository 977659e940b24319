//! Exception answers of a unit, in words (MODBUS Application Protocol V1.1b3, § 7).

/// An answer whose transaction or unit number is that of another request.
pub const ANOTHER_REQUEST: &str = "answers another request than was asked: its transaction or unit number is wrong. Does a gateway or a second master use the same connection? Check unit and the gateway's settings";

/// The meaning of an exception code, and the remedy.
pub fn meaning(code: u8) -> &'static str {
    match code {
        1 => "exception 1, it does not know the function: check area in the map",
        2 => {
            "exception 2, it has none or not all of these registers: check address and type in the map, and leave gaps out"
        }
        3 => {
            "exception 3, it does not take this number of registers: check type and gaps in the map"
        }
        4 => "exception 4, it has failed: look at the device",
        5 => "exception 5, it needs longer: it is asked again",
        6 => "exception 6, it is busy: it is asked again",
        8 => "exception 8, its memory has an error: look at the device",
        10 => "exception 10, the gateway has no way to it: check unit and the gateway's settings",
        11 => {
            "exception 11, it does not answer the gateway: check unit, wiring and power of the device behind it"
        }
        _ => "an exception that the protocol does not have: look at the device's manual",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_says_what_to_do() {
        for code in 0..=255 {
            assert!(meaning(code).contains(": "), "{code}");
        }
        assert!(meaning(2).contains("gaps") && meaning(6).contains("busy"));
        assert!(!meaning(6).contains("map"));
    }
}
