//! The volume descriptors: where the root is, and which of the trees is shown.

use umvu_abi::{Errno, files::Backing};

use super::record::{Record, half, word};

/// The length of a sector.
pub(super) const SECTOR: u64 = 2048;
/// How many descriptors are looked at.
const MANY: u64 = 64;

/// How names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Capital letters and a version behind: shown in small letters without.
    Plain,
    /// UCS-2, big endian.
    Joliet,
    /// Those of Unix, with all that belongs to a file, behind so many bytes.
    Rock(usize),
}

/// The tree that is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volume {
    pub(super) names: Names,
    /// Where the record of the root is.
    pub(super) root: u64,
    pub(super) blocks: u32,
}

/// Reads what must be there. Errors: `EIO`.
pub(super) fn exact(image: &dyn Backing, at: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    if image.read_at(at, buffer)? < buffer.len() { Err(Errno::EIO) } else { Ok(()) }
}

impl Volume {
    /// Finds the best tree: Rock Ridge, else Joliet, else what there is, as Linux. Errors: what is wrong.
    pub(super) fn find(image: &dyn Backing) -> Result<Self, String> {
        let (mut plain, mut joliet) = (None, None);
        for sector in 16..16 + MANY {
            let mut bytes = [0; 2048];
            let read = exact(image, sector * SECTOR, &mut bytes);
            if read.is_err() || &bytes[1..6] != b"CD001" {
                break;
            }
            let root = sector * SECTOR + 156;
            let blocks = word(&bytes, 80);
            match bytes[0] {
                1 if half(&bytes, 128) != 2048 => {
                    return Err("ISO 9660 image with blocks that are not of 2048 bytes".to_owned());
                }
                1 if plain.is_none() => plain = Some(Self { names: Names::Plain, root, blocks }),
                2 if bytes[88..90] == *b"%/" && matches!(bytes[90], b'@' | b'C' | b'E') => {
                    joliet = Some(Self { names: Names::Joliet, root, blocks });
                }
                255 => break,
                _ => {}
            }
        }
        let no_image = "no ISO 9660 image (use one of genisoimage or xorriso)";
        let plain = plain.ok_or_else(|| no_image.to_owned())?;
        Ok(match plain.rock(image) {
            Some(skipped) => Self { names: Names::Rock(skipped), ..plain },
            None => joliet.unwrap_or(plain),
        })
    }

    /// How many bytes are before Rock Ridge's, if the record that the root has of itself has some.
    fn rock(&self, image: &dyn Backing) -> Option<usize> {
        let root = Record::read(image, self.root).ok()?;
        let own = Record::read(image, root.start()).ok()?;
        let at = own.extra.windows(6).take(16).position(|piece| piece == b"SP\x07\x01\xbe\xef")?;
        own.extra.get(at + 6).map(|skipped| usize::from(*skipped))
    }
}
