//! The interface between guests and the hypervisor: negative system-call numbers.
//!
//! Numbers, tags and layouts are those of VUOS's `vulib.h`, so that programs built for it work.

/// `insmod(char *module, int permanent)`.
pub const SYS_INSMOD: i32 = -1;
/// `rmmod(char *name)`.
pub const SYS_RMMOD: i32 = -2;
/// `lsmod(char *buf, size_t len)`; NULL and 0 ask for the size, terminating NUL included.
pub const SYS_LSMOD: i32 = -3;
/// `vuctl(int tag, ...)`.
pub const SYS_VUCTL: i32 = -4;
/// `msocket(char *stack, int domain, int type, int protocol)`.
pub const SYS_MSOCKET: i32 = -5;

/// The name of a call by its number.
#[must_use]
pub fn name_of(number: i64) -> Option<&'static str> {
    let names = ["insmod", "rmmod", "lsmod", "vuctl", "msocket"];
    let at = number.checked_add(1)?.checked_neg()?;
    names.get(usize::try_from(at).ok()?).copied()
}

/// `vuctl(VUCTL_GETINFO, struct vu_info *)`; a NULL pointer only asks "am I inside?".
pub const VUCTL_GETINFO: u32 = 1;
/// `vuctl(VUCTL_SETNAME, char *name)`.
pub const VUCTL_SETNAME: u32 = 2;
/// `vuctl(VUCTL_GET_DEBUGTAGS, char *buf, size_t len, int local)`.
pub const VUCTL_GET_DEBUGTAGS: u32 = 3;
/// `vuctl(VUCTL_ADD_DEBUGTAGS, char *tags, int local)`.
pub const VUCTL_ADD_DEBUGTAGS: u32 = 4;
/// `vuctl(VUCTL_DEL_DEBUGTAGS, char *tags, int local)`.
pub const VUCTL_DEL_DEBUGTAGS: u32 = 5;
/// `vuctl(VUCTL_GET_DEBUGTAGNAME, int tag, char *buf, size_t len)`.
pub const VUCTL_GET_DEBUGTAGNAME: u32 = 6;
/// `vuctl(VUCTL_SET_DEBUGCOLOR, char *colors)`.
pub const VUCTL_SET_DEBUGCOLOR: u32 = 7;
/// umvu's own: `vuctl(VUCTL_LAST_ERROR, char *buf, size_t len)` copies the one-line reason of the
/// calling thread's last failed mount, umount2, insmod or rmmod; returns its length (0: none).
pub const VUCTL_LAST_ERROR: u32 = 0x100;
/// umvu's own: `vuctl(VUCTL_GET_STACK, int domain, char *buf, size_t len)` copies the mount point
/// of the calling thread's default stack of that address family; returns 0 length for the kernel's.
pub const VUCTL_GET_STACK: u32 = 0x101;
/// umvu's own: `vuctl(VUCTL_ADD_LINK, char *name, char *vnl)` adds an interface on the network of a
/// locator to the caller's stack of AF_NETLINK, for stacks whose netlink cannot.
pub const VUCTL_ADD_LINK: u32 = 0x102;

/// umvu's own: `vuctl(VUCTL_FREE_IDS)` lets the calling thread become any virtual user.
pub const VUCTL_FREE_IDS: u32 = 0x103;

/// The file type bits of a mounted network stack in `st_mode` (`S_IFSTACK`).
pub const S_IFSTACK: u32 = 0o160_000;
/// The `type` argument of `msocket` that sets the calling thread's default stack.
pub const SOCK_DEFAULT: i32 = 0;

/// Size of `struct vu_info`: a `struct utsname` (six fields of 65 bytes) and two more names.
pub const VU_INFO_SIZE: usize = 8 * 65;
/// Length of one name field, terminating NUL included (`__NEW_UTS_LEN + 1`).
pub const NAME_FIELD: usize = 65;
