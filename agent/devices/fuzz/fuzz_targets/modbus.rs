//! Register maps and answers to them: no panic, requests within the protocol, values that are numbers or said to be none.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::modbus::map::{Answer, BITS_MAX, MapFile, RegisterMap, Value, WORDS_MAX};
use linli_devices::modbus::watchers::Watchers;

fuzz_target!(|data: &[u8]| {
    let (text, answer) = data.split_at(data.len() / 2);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(file) = toml::from_str::<MapFile>(text) else {
        return;
    };
    let Ok(map) = RegisterMap::new(file) else {
        return;
    };
    let words: Vec<u16> = answer
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let bits: Vec<bool> = answer.iter().map(|byte| byte & 1 == 1).collect();
    let mut watchers = Watchers::new(&map);
    for request in &map.requests {
        assert!(request.count <= WORDS_MAX.max(BITS_MAX));
        for index in request.points.clone() {
            let point = &map.points[index];
            for answer in [Answer::Words(&words), Answer::Bits(&bits)] {
                let Some(value) = point.value(request, &answer) else {
                    continue;
                };
                if let Value::Number(number) = value {
                    assert!(number.is_finite());
                }
                watchers.step(index, point, "d", value, 1, &mut Vec::new());
            }
        }
    }
});
