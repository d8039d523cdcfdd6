//! The clients that hold something for a time, as their keeper sees them.

use std::time::{Duration, Instant};

use netlink_emu::Failure;

use super::{dhcp4, dhcp6};

/// What a client got, and its times.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// When to ask for more time, and when to ask anybody.
    pub(super) renew: Option<Instant>,
    pub(super) rebind: Option<Instant>,
    /// When it ends.
    pub(super) ends: Option<Instant>,
    pub(super) extension: Extension,
}

/// What a lease says.
#[derive(Debug, Clone)]
pub(super) enum Extension {
    V4(dhcp4::message::Lease),
    V6(dhcp6::Lease),
}

impl Held {
    /// Starts the times, in seconds from now; the largest number is for ever.
    pub(super) fn new(renew: u32, rebind: u32, ends: u32, extension: Extension) -> Self {
        let now = Instant::now();
        let at = |seconds: u32| {
            let seconds = Some(seconds).filter(|seconds| *seconds != u32::MAX)?;
            now.checked_add(Duration::from_secs(u64::from(seconds)))
        };
        Self { renew: at(renew), rebind: at(rebind), ends: at(ends), extension }
    }
}

/// A client of one interface.
#[derive(Debug)]
pub(super) enum Client {
    V4(dhcp4::Client),
    V6(dhcp6::Client),
}

impl Client {
    /// Gets a lease. Errors: `ETIMEDOUT` when nobody answered in time.
    pub(super) fn acquire(&self, deadline: Instant) -> Result<Held, Failure> {
        match self {
            Self::V4(client) => client.acquire(deadline),
            Self::V6(client) => client.acquire(deadline),
        }
    }

    /// Asks for more time. Errors: `ETIMEDOUT`, `EADDRNOTAVAIL` when it is refused.
    pub(super) fn extend(&self, held: &Held, rebinds: bool) -> Result<Held, Failure> {
        match (self, &held.extension) {
            (Self::V4(client), Extension::V4(lease)) => client.extend(lease, rebinds),
            (Self::V6(client), Extension::V6(lease)) => client.extend(lease, rebinds),
            _ => Err(umvu_abi::Errno::EINVAL.into()),
        }
    }

    /// Gives a lease back.
    pub(super) fn release(&self, held: &Held) {
        match (self, &held.extension) {
            (Self::V4(client), Extension::V4(lease)) => client.release(lease),
            (Self::V6(client), Extension::V6(lease)) => client.release(lease),
            _ => {}
        }
    }

    /// Undoes what a lease has configured.
    pub(super) fn withdraw(&self, held: &Held) {
        match (self, &held.extension) {
            (Self::V4(client), Extension::V4(lease)) => client.withdraw(lease),
            (Self::V6(client), Extension::V6(lease)) => client.withdraw(lease),
            _ => {}
        }
    }
}
