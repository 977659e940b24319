//! Every size that the protocol bounds. A receiver enforces each before it allocates.

/// Maximum size of an encoded chunk with its header, bytes. sled keeps larger values outside of its log, in
/// files that it never syncs, so durability depends on this limit too.
pub const CHUNK_BYTES_MAX: usize = 6 * 1024;
/// Maximum size of a packed event, bytes; one event always fits into an uncompressed chunk.
pub const EVENT_BYTES_MAX: usize = CHUNK_BYTES_MAX - super::chunk::HEADER_BYTES - 16;
/// Maximum size of a decompressed payload of a chunk, bytes.
pub const CHUNK_RAW_BYTES_MAX: usize = 48 * 1024;
/// Maximum number of events in a chunk.
pub const CHUNK_EVENTS_MAX: usize = 256;
/// Maximum size of the payload of a batch frame, bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Maximum size of the payload of any other frame, bytes.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Maximum size of unacknowledged batches of one lane, bytes.
pub const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Maximum length of a name (agent, site, device, place, source), bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Maximum length of an event kind, bytes.
pub const KIND_BYTES_MAX: usize = 64;
/// Maximum number of attributes of an event.
pub const ATTRIBUTES_MAX: usize = 32;
/// Maximum length of an attribute value, bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Maximum size of a raw message kept with an event, bytes.
pub const RAW_BYTES_MAX: usize = 3 * 1024;
/// Maximum number of earlier boots whose clock anchor an agent reports.
pub const ANCHORS_MAX: usize = 16;
/// Maximum number of lanes in a hello, a welcome or a heartbeat: three, with room for newer versions.
pub const LANES_MAX: usize = 16;
/// Maximum length of free text in a frame (reasons, messages), bytes.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Maximum number of unacknowledged messages about cases that a hub sends to an agent.
pub const CASES_IN_FLIGHT_MAX: usize = 32;
