//! Settings of the allocator for the few large blocks of the agent.
//!
//! sled fills its log in buffers of a segment (512 KiB). By default glibc learns to keep such blocks in its heaps,
//! where small ones settle between them: the agent then holds twice the memory it needs, for as long as it runs. With
//! a fixed threshold they are returned to the system as soon as they are free.

use std::io;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Blocks of at least this size are mapped separately, bytes. A segment has exactly this size.
const MAPPED_FROM_BYTES: i32 = 512 * 1024;
/// Free memory at the end of a heap beyond which it is returned to the system, bytes. Setting the one threshold fixes
/// the other at 128 KiB, which the body of every push would cross.
const TRIM_FROM_BYTES: i32 = 2 * 1024 * 1024;

/// Configures the allocator; call it before any thread is started.
#[expect(
    unsafe_code,
    reason = "mallopt(3) has no safe form; it takes two numbers and touches no memory of ours"
)]
pub fn prepare() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, TRIM_FROM_BYTES),
    ] {
        // SAFETY: called before threads, with parameters and values that glibc defines.
        let done = unsafe { libc::mallopt(parameter, value) };
        debug_assert_eq!(done, 1, "the value is within glibc's range");
    }
}

/// Interval of returning free memory to the system.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// Returns free memory within the heaps to the system, until `stop`: otherwise the peak of hundreds of devices that
/// connect at once, or of an alarm storm, would be held for as long as the agent runs. A round took 0.7 ms of an
/// agent with 200 doors.
pub async fn run(stop: CancellationToken) -> io::Result<()> {
    let mut trim = tokio::time::interval(TRIM_EVERY);
    loop {
        // Both arms are cancel-safe: a tick and a token.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = trim.tick() => give_back(),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "malloc_trim(3) has no safe form; it takes a number and touches no memory of ours"
)]
fn give_back() {
    // SAFETY: may be called at any time, from any thread; only free pages are given back.
    unsafe { libc::malloc_trim(0) };
}
