//! A message of a charge point: no panic, and every call has an answer that is JSON.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::ocpp::message::{self, Message, Reply};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(Message::Call {
        id,
        action,
        payload,
    }) = message::messages(text).remove(0)
    else {
        return;
    };
    let (_, reply) = message::call("cp-1", &action, payload.get(), "2026-07-01T04:00:00Z", 60);
    let answer = match reply {
        Reply::Result(payload) => message::result(&id, &payload),
        Reply::Error(code, text) => message::error(&id, code, &text),
    };
    assert!(answer.starts_with("[3,") || answer.starts_with("[4,"));
});
