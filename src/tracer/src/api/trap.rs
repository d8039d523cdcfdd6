//! Which calls are trapped, and when.

use umvu_abi::Errno;

/// When a system call is trapped in an armed view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Always.
    Always,
    /// When this pointer argument is not NULL.
    NonNull(u8),
    /// When this pointer argument is not NULL, or `args[index]` has a bit of `mask` (low 32 bits).
    NonNullOr {
        /// The pointer.
        pointer: u8,
        /// The other argument.
        index: u8,
        /// Its bits.
        mask: u32,
    },
    /// When `args[index] & mask == value` (low 32 bits).
    Masked {
        /// The argument.
        index: u8,
        /// Bits that count.
        mask: u32,
        /// Their value.
        value: u32,
    },
    /// Unless `args[index] & mask == value` (low 32 bits).
    Unless {
        /// The argument.
        index: u8,
        /// Bits that count.
        mask: u32,
        /// Their value.
        value: u32,
    },
    /// Not trapped: the filter itself answers with this error.
    Refuse(Errno),
    /// Always, but only in processes whose waits are watched ([`Instead::then`]), and where
    /// [`crate::Control::trap_also`] asks for it.
    Waiting,
    /// Always in processes that are watched so; in others as it says.
    Watched(Watch, Before),
    /// Not at all, until [`crate::Control::trap_also`] asks for it.
    Optional,
    /// As [`Trap::Optional`], and then when this pointer argument is not NULL.
    OptionalNonNull(u8),
}

/// What is watched in a process by [`Action::Watched`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// The calls that ask what a descriptor is.
    Looks,
    /// Those, and mmap(2): what is mapped must not be executed.
    Maps,
    /// Those, and the calls that move its data.
    Data,
    /// The calls on one descriptor alone ([`crate::Control::watch_descriptor`]).
    Descriptor,
}

/// When a call is trapped in processes that are not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Never.
    Never,
    /// When this pointer argument is not NULL, or these bits of another argument are set.
    NonNullOr {
        /// The pointer.
        pointer: u8,
        /// The other argument.
        index: u8,
        /// The bits of its low 32 bits.
        mask: u32,
    },
    /// When this pointer argument is not NULL.
    NonNull(u8),
    /// When `args[index] & mask == value` (low 32 bits).
    Masked {
        /// The argument.
        index: u8,
        /// Bits that count.
        mask: u32,
        /// Their value.
        value: u32,
    },
    /// Unless `args[index] & mask == value` (low 32 bits).
    Unless {
        /// The argument.
        index: u8,
        /// Bits that count.
        mask: u32,
        /// Their value.
        value: u32,
    },
}

impl Before {
    /// As a rule of the armed view; None for a call that is not trapped there.
    #[must_use]
    pub fn as_trap(self) -> Option<Trap> {
        match self {
            Self::Never => None,
            Self::NonNullOr { pointer, index, mask } => {
                Some(Trap::NonNullOr { pointer, index, mask })
            }
            Self::NonNull(index) => Some(Trap::NonNull(index)),
            Self::Masked { index, mask, value } => Some(Trap::Masked { index, mask, value }),
            Self::Unless { index, mask, value } => Some(Trap::Unless { index, mask, value }),
        }
    }
}

/// One row of what an armed view traps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The system-call number.
    pub number: i64,
    /// When.
    pub trap: Trap,
    /// Whether Linux may interrupt this call by a signal (`EINTR` or restart by SA_RESTART). A
    /// call that is never interrupted is restarted whatever the handler's flags are.
    pub interruptible: bool,
    /// The argument with a path, when guests that make many such calls may judge it themselves
    /// (see [`crate::Control::trap_paths`]).
    pub path: Option<u8>,
}
