//! Every size that the protocol bounds, in one place. A receiver enforces each before it allocates.

/// Largest encoded chunk with its header, in bytes. sled keeps larger values out of its log, in
/// files that it never syncs, so this is also a rule of durability.
pub const CHUNK_BYTES_MAX: usize = 6 * 1024;
/// Largest packed event, in bytes; one event always fits an uncompressed chunk.
pub const EVENT_BYTES_MAX: usize = CHUNK_BYTES_MAX - super::chunk::HEADER_BYTES - 16;
/// Largest payload of a chunk after decompression, in bytes.
pub const CHUNK_RAW_BYTES_MAX: usize = 48 * 1024;
/// Most events in one chunk.
pub const CHUNK_EVENTS_MAX: usize = 256;
/// Largest payload of a batch frame, in bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Largest payload of any other frame, in bytes.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of batches sent and not acknowledged, for one lane.
pub const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Longest name (agent, site, device, place, source), in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest event kind, in bytes.
pub const KIND_BYTES_MAX: usize = 64;
/// Most attributes on one event.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest attribute value, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Longest raw message kept beside an event, in bytes.
pub const RAW_BYTES_MAX: usize = 3 * 1024;
/// Most earlier boots whose clock anchor an agent reports.
pub const ANCHORS_MAX: usize = 16;
/// Most lanes of a hello, a welcome or a heartbeat: three, and room for those of later versions.
pub const LANES_MAX: usize = 16;
/// Longest free text in a frame (reasons, messages), in bytes.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Messages about cases that a hub sends to an agent and that are not acknowledged yet.
pub const CASES_IN_FLIGHT_MAX: usize = 32;
