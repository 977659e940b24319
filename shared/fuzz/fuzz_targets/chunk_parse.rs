//! Parses any bytes as a chunk. The checksum is corrected first, because otherwise no input would pass it.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use linli_shared::protocol::chunk::{Chunk, HEADER_BYTES, MAGIC};
use linli_shared::protocol::limits::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX};

fuzz_target!(|data: &[u8]| {
    let as_it_is = Bytes::copy_from_slice(data);
    if let Ok(chunk) = Chunk::parse(&as_it_is) {
        let _ = chunk.events();
    }
    if data.len() <= HEADER_BYTES {
        return;
    }
    let mut bytes = data.to_vec();
    bytes[..4].copy_from_slice(&MAGIC);
    let wanted = HEADER_BYTES + usize::from(u16::from_be_bytes([bytes[10], bytes[11]]));
    // An input shorter than its header announces gets its actual size in the header.
    let size = if wanted <= bytes.len() {
        wanted
    } else {
        let size = bytes.len().min(CHUNK_BYTES_MAX);
        let payload_bytes = (size - HEADER_BYTES) as u16;
        bytes[10..12].copy_from_slice(&payload_bytes.to_be_bytes());
        size
    };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..48]), &bytes[HEADER_BYTES..size]);
    bytes[48..HEADER_BYTES].copy_from_slice(&checksum.to_be_bytes());
    let Ok(chunk) = Chunk::parse(&bytes.into()) else {
        return;
    };
    assert!(chunk.bytes().len() <= CHUNK_BYTES_MAX);
    if let Ok(events) = chunk.events() {
        assert!((1..=CHUNK_EVENTS_MAX).contains(&events.len()));
        assert_eq!(events.len(), usize::from(chunk.header().count));
        for event in &events {
            event
                .check()
                .expect("a chunk gives only events of the model");
        }
    }
});
