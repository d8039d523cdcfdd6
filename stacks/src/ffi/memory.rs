//! How the C library gets memory for large buffers.
#![expect(unsafe_code, reason = "mallopt(3) has no safe wrapper")]

/// Has large zeroed buffers come from the kernel, which gives out memory as it is touched, and go
/// back there. Without it, glibc keeps them once one was freed and clears each before it is used
/// again, at the cost of hundreds of microseconds per connection.
pub(crate) fn prefer_fresh_pages() {
    #[cfg(target_env = "gnu")]
    {
        const THRESHOLD: libc::c_int = 128 * 1024;
        // SAFETY: mallopt(3) takes two integers; this option may be set at any time.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD) };
    }
}
