//! Newtypes for integers that come in more than one kind.

use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

newtype!(
    /// The kernel's id of one thread, as seen by the hypervisor (gettid(2)).
    Tid(i32)
);
newtype!(
    /// The id of a thread group, that is of a process (getpid(2)).
    Pid(i32)
);
newtype!(
    /// A descriptor number in a guest's table; never a descriptor of the hypervisor.
    GuestFd(i32)
);
newtype!(
    /// An address in a guest's memory; never dereferenced by the hypervisor.
    GuestAddr(u64)
);
newtype!(
    /// The index of a network interface in its stack; 1 is `lo` (netdevice(7)).
    IfIndex(u32)
);

impl GuestAddr {
    /// The null pointer.
    pub const NULL: Self = Self(0);

    /// Tells whether the guest passed NULL.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Adds a byte offset, wrapping as pointer arithmetic in the guest does.
    #[must_use]
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}
