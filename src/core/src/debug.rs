//! Debug tags: one letter each, named by the hypervisor's parts and by its modules.

use parking_lot::Mutex;
use umvu_abi::Errno;

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

/// The name of a tag; None for a letter that is not used.
#[must_use]
pub fn name_of(tag: u8) -> Option<&'static str> {
    NAMES.iter().find(|(letter, _)| *letter == tag).map(|(_, name)| *name)
}

/// The active tags of a view and their colours.
#[derive(Debug, Default)]
pub struct Tags {
    active: Mutex<Vec<u8>>,
    colors: Mutex<Vec<(u8, String)>>,
}

impl Tags {
    /// The letters of the active tags.
    #[must_use]
    pub fn active(&self) -> String {
        String::from_utf8_lossy(&self.active.lock()).into_owned()
    }

    /// Whether a tag is active.
    #[must_use]
    pub fn is_active(&self, tag: u8) -> bool {
        self.active.lock().contains(&tag)
    }

    /// Activates tags. Errors: `EINVAL` for an unknown letter; then nothing changes.
    pub fn add(&self, tags: &str) -> Result<(), Errno> {
        check(tags)?;
        let mut active = self.active.lock();
        active.extend(tags.bytes());
        active.sort_unstable();
        active.dedup();
        Ok(())
    }

    /// Deactivates tags. Errors: `EINVAL` for an unknown letter; then nothing changes.
    pub fn remove(&self, tags: &str) -> Result<(), Errno> {
        check(tags)?;
        self.active.lock().retain(|tag| !tags.as_bytes().contains(tag));
        Ok(())
    }

    /// Sets colours, `TAGS:COLORS`, several separated by commas. Errors: `EINVAL`.
    pub fn set_colors(&self, text: &str) -> Result<(), Errno> {
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (tags, colors) = item.split_once(':').ok_or(Errno::EINVAL)?;
            check(tags)?;
            if !colors.chars().all(|color| COLORS.contains(color)) {
                return Err(Errno::EINVAL);
            }
            let mut table = self.colors.lock();
            for tag in tags.bytes() {
                table.retain(|(known, _)| *known != tag);
                table.push((tag, colors.to_owned()));
            }
        }
        Ok(())
    }
}

fn check(tags: &str) -> Result<(), Errno> {
    if tags.bytes().all(|tag| name_of(tag).is_some()) { Ok(()) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_and_removed() {
        let tags = Tags::default();
        assert_eq!(tags.add("sN"), Ok(()));
        assert_eq!(tags.active(), "Ns");
        assert_eq!(tags.add("!"), Err(Errno::EINVAL));
        assert_eq!(tags.remove("N"), Ok(()));
        assert_eq!(tags.active(), "s");
    }

    #[test]
    fn colors_are_checked() {
        let tags = Tags::default();
        assert_eq!(tags.set_colors("p:r,c:g#"), Ok(()));
        assert_eq!(tags.set_colors("p:?"), Err(Errno::EINVAL));
        assert_eq!(tags.set_colors("pr"), Err(Errno::EINVAL));
    }
}
