//! How the allocator deals with the few large blocks of the agent.
//!
//! sled fills its log in buffers of a segment (512 KiB). Left alone, glibc learns to keep such blocks in
//! its heaps, where small ones settle between them: the agent then holds twice of what it needs, for as
//! long as it runs. With a fixed threshold they go back to the system as soon as they are free.

/// Blocks of this size and more are mapped by themselves, bytes. A segment is just that.
const MAPPED_FROM_BYTES: i32 = 512 * 1024;

/// Sets the allocator up; before any thread is started.
#[expect(
    unsafe_code,
    reason = "mallopt(3) has no safe form; it takes two numbers and touches no memory of ours"
)]
pub fn prepare() {
    // SAFETY: called once, before threads, with a parameter and a value that glibc defines.
    let done = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) };
    debug_assert_eq!(done, 1, "the value is within glibc's range");
}
