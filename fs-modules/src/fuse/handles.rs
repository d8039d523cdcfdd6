//! Open files and directories of the program, by handles of ours.

use std::collections::HashMap;

use parking_lot::Mutex;
use umvu_abi::files::Handle;

/// An open file as the program has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    /// The program's number.
    pub(super) number: u64,
    /// The flags of open(2).
    pub(super) flags: u32,
    /// Whether the program has to be told of the end.
    pub(super) is_held: bool,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Open>,
    last: u64,
}

/// All that is open.
#[derive(Debug, Default)]
pub(super) struct Handles {
    table: Mutex<Table>,
}

impl Handles {
    /// Keeps an open file.
    pub(super) fn add(&self, open: Open) -> Handle {
        let mut table = self.table.lock();
        table.last += 1;
        let handle = table.last;
        table.open.insert(handle, open);
        Handle(handle)
    }

    /// An open file.
    pub(super) fn get(&self, handle: Handle) -> Option<Open> {
        self.table.lock().open.get(&handle.0).copied()
    }

    /// The program's number of an open file; 0 for one that it does not know.
    pub(super) fn number(&self, handle: Handle) -> u64 {
        self.get(handle).map_or(0, |open| open.number)
    }

    /// Lets an open file go.
    pub(super) fn remove(&self, handle: Handle) -> Option<Open> {
        self.table.lock().open.remove(&handle.0)
    }
}
