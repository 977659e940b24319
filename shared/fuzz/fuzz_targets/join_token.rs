//! A join token from any text: no panic, and an accepted token reads back unchanged.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_shared::protocol::token::JoinToken;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string(), text.trim());
        assert_eq!(token.to_string().parse(), Ok(token));
    }
});
