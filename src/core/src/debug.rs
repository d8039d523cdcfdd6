//! Debug tags: one letter each, named by the hypervisor's parts and by its modules.

use std::{
    collections::HashMap,
    panic::Location,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use umvu_abi::{Errno, Tid};

use crate::Core;

const NAMES: &[(u8, &str)] = &[
    (b'a', "ACTION"),
    (b'c', "CHOICE"),
    (b'd', "FD_TABLE"),
    (b'f', "FILETABLE"),
    (b'm', "MODULE"),
    (b'n', "NESTED"),
    (b'p', "PATH"),
    (b's', "SYSCALL"),
    (b't', "THREADS"),
    (b'v', "VNODE"),
    (b'B', "VUBINFMT"),
    (b'D', "VUDEV"),
    (b'F', "VUFUSE"),
    (b'M', "VUMISC"),
    (b'N', "VUNET"),
    (b'U', "FUSE"),
    (b'V', "VUFS"),
];

const COLORS: &str = "nwrgbcmyNWRGBCMY+-_*#";
/// The hues in the order of their SGR codes; `n` is black.
const HUES: &str = "nrgybmcw";

/// The name of a tag; None for a letter that is not used.
#[must_use]
pub fn name_of(tag: u8) -> Option<&'static str> {
    NAMES.iter().find(|(letter, _)| *letter == tag).map(|(_, name)| *name)
}

/// Events with this target are debug lines: shown whatever the log level is, and without a prefix.
pub const TARGET: &str = "umvu-debug";

/// A set of tags, of a view or of one thread.
#[derive(Debug, Default)]
pub struct Tags(AtomicU64);

impl Tags {
    /// The letters of the tags.
    #[must_use]
    pub fn letters(&self) -> String {
        (b'A'..=b'z').filter(|tag| self.has(*tag)).map(char::from).collect()
    }

    /// Whether a tag is in the set.
    #[must_use]
    pub fn has(&self, tag: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit(tag) != 0
    }

    /// Adds tags. Errors: `EINVAL` for an unknown letter; then nothing changes.
    pub fn add(&self, tags: &str) -> Result<(), Errno> {
        self.0.fetch_or(bits(tags)?, Ordering::Relaxed);
        Ok(())
    }

    /// Removes tags. Errors: `EINVAL` for an unknown letter; then nothing changes.
    pub fn remove(&self, tags: &str) -> Result<(), Errno> {
        self.0.fetch_and(!bits(tags)?, Ordering::Relaxed);
        Ok(())
    }
}

impl Clone for Tags {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// The colours of the tags.
#[derive(Debug, Default)]
pub struct Colors(Mutex<HashMap<u8, String>>);

impl Colors {
    /// Sets colours, `TAGS:COLORS`, several separated by commas. Errors: `EINVAL`.
    pub fn set(&self, text: &str) -> Result<(), Errno> {
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (tags, colors) = item.split_once(':').ok_or(Errno::EINVAL)?;
            bits(tags)?;
            if !colors.chars().all(|color| COLORS.contains(color)) {
                return Err(Errno::EINVAL);
            }
            let mut table = self.0.lock();
            table.extend(tags.bytes().map(|tag| (tag, colors.to_owned())));
        }
        Ok(())
    }

    /// Colours a text for a terminal (ECMA-48, SGR).
    fn paint(&self, tag: u8, text: &str) -> String {
        match self.0.lock().get(&tag) {
            None => text.to_owned(),
            Some(colors) => {
                let codes: Vec<_> = colors.chars().filter_map(code).collect();
                format!("\x1b[{}m{text}\x1b[0m", codes.join(";"))
            }
        }
    }
}

/// The parameter of SGR that a colour letter stands for.
fn code(color: char) -> Option<String> {
    let effect = match color {
        '+' => 1,
        '-' => 2,
        '_' => 4,
        '*' => 5,
        '#' => 7,
        letter => {
            let number = HUES.find(letter.to_ascii_lowercase())?;
            let first = if letter.is_ascii_uppercase() { 40 } else { 30 };
            first + number
        }
    };
    Some(effect.to_string())
}

fn bit(tag: u8) -> u64 {
    tag.checked_sub(b'A').and_then(|shift| 1_u64.checked_shl(u32::from(shift))).unwrap_or(0)
}

fn bits(tags: &str) -> Result<u64, Errno> {
    if !tags.bytes().all(|tag| name_of(tag).is_some()) {
        return Err(Errno::EINVAL);
    }
    Ok(tags.bytes().fold(0, |all, tag| all | bit(tag)))
}

impl Core {
    /// Writes a debug line when its tag is active, in the view or for the thread.
    #[track_caller]
    pub fn say(&self, tid: Tid, tag: u8, text: impl FnOnce() -> String) {
        if !self.view.debug.has(tag) && !self.tasks.debugs(tid, tag) {
            return;
        }
        let place = Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        let us = std::process::id();
        let name = name_of(tag).unwrap_or_default();
        let line = format!("{tid}:{us} {name} {file}:{} {}", place.line(), text());
        tracing::error!(target: TARGET, "{}", self.view.colors.paint(tag, &line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_and_removed() {
        let tags = Tags::default();
        assert_eq!(tags.add("sN"), Ok(()));
        assert_eq!(tags.letters(), "Ns");
        assert_eq!(tags.add("!"), Err(Errno::EINVAL));
        assert_eq!(tags.remove("N"), Ok(()));
        assert_eq!(tags.letters(), "s");
    }

    #[test]
    fn colors_are_checked() {
        let colors = Colors::default();
        assert_eq!(colors.set("p:r,cs:gB#n"), Ok(()));
        assert_eq!(colors.set("p:?"), Err(Errno::EINVAL));
        assert_eq!(colors.set("pr"), Err(Errno::EINVAL));
        assert_eq!(colors.paint(b'p', "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(colors.paint(b's', "x"), "\x1b[32;44;7;30mx\x1b[0m");
        assert_eq!(colors.paint(b'a', "x"), "x");
    }
}
