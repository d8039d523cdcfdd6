//! What was lasting and is not yet home.

use std::collections::HashMap;

use umvu_abi::{Errno, files::Backing};

use super::{
    Place,
    format::{COMMIT, DESCRIPTOR, ESCAPED, Header, REVOKE, Tag, get, kind},
};

/// One block of a transaction.
struct Logged {
    sequence: u32,
    tag: Tag,
    /// Where its content is in the journal.
    number: u32,
}

/// Reads the transactions that are whole and hands each block of theirs to `home`, with its number, in
/// the order in which they were written. Returns the journal's superblock as it is to be afterwards.
/// Errors: `EUCLEAN`, `EOPNOTSUPP` with a line in the log for what is not known, those of `home`.
fn transactions(
    image: &dyn Backing,
    place: &Place,
    header: &Header,
    mut home: impl FnMut(u64, Vec<u8>) -> Result<(), Errno>,
) -> Result<u32, Errno> {
    let found = scan(image, place, header)?;
    for logged in &found.blocks {
        let Logged { sequence, tag, number } = logged;
        // Given up later, or in the same transaction.
        if found
            .revoked
            .get(&tag.block)
            .is_some_and(|last| last.wrapping_sub(*sequence).cast_signed() >= 0)
        {
            continue;
        }
        if tag.block >= place.end {
            return Err(Errno::EUCLEAN);
        }
        let mut data = place.read(image, *number)?;
        if !header.holds(tag, *sequence, &data) {
            return Err(Errno::EUCLEAN);
        }
        if tag.flags & ESCAPED != 0 {
            data[..4].copy_from_slice(&0xc03b_3998_u32.to_be_bytes());
        }
        home(tag.block, data)?;
    }
    Ok(found.next)
}

struct Found {
    blocks: Vec<Logged>,
    revoked: HashMap<u64, u32>,
    /// The number behind the last whole transaction.
    next: u32,
}

fn scan(image: &dyn Backing, place: &Place, header: &Header) -> Result<Found, Errno> {
    let (first, last) = (header.first(), header.last());
    let mut found = Found { blocks: Vec::new(), revoked: HashMap::new(), next: header.sequence() };
    let mut number = header.start();
    if number < first || number >= last {
        return Err(Errno::EUCLEAN);
    }
    let after = |number: u32| if number + 1 >= last { first } else { number + 1 };
    let (mut blocks, mut revoked) = (Vec::new(), Vec::new());
    // A log that goes round is not read twice.
    let mut left = last - first;
    while left > 0 {
        let block = place.read(image, number)?;
        let Some((kind, sequence)) = kind(&block) else { break };
        if sequence != found.next {
            break;
        }
        left -= 1;
        number = after(number);
        let tail = place.block - 4;
        match kind {
            DESCRIPTOR if header.is_sound(&block, tail) => {
                for tag in header.tags(&block) {
                    blocks.push(Logged { sequence, tag, number });
                    number = after(number);
                    left = left.saturating_sub(1);
                }
            }
            REVOKE if header.is_sound(&block, tail) => revoked.extend(revocations(header, &block)),
            COMMIT if header.is_sound(&block, 16) => {
                found.blocks.append(&mut blocks);
                found.revoked.extend(revoked.drain(..).map(|block| (block, sequence)));
                found.next = sequence.wrapping_add(1);
            }
            _ => break,
        }
    }
    Ok(found)
}

fn revocations(header: &Header, block: &[u8]) -> Vec<u64> {
    let end = usize::try_from(get(block, 12)).unwrap_or(0).min(block.len());
    let size = if header.is_wide() { 8 } else { 4 };
    let number = |at: usize| match size {
        8 => u64::from(get(block, at)) << 32 | u64::from(get(block, at + 4)),
        _ => u64::from(get(block, at)),
    };
    (16..end).step_by(size).filter(|at| at + size <= end).map(number).collect()
}

/// Hands what is in the journal and not home to `home`, each block with its number, in order; returns
/// whether there was a log. The journal is emptied when `image` may be written to. Errors: `EUCLEAN`,
/// `EOPNOTSUPP` for what is not known, those of `home`.
pub(in super::super) fn replay(
    image: &dyn Backing,
    place: &Place,
    home: impl FnMut(u64, Vec<u8>) -> Result<(), Errno>,
) -> Result<Option<Emptied>, Errno> {
    let header = Header::read(image, place)?;
    if header.start() == 0 {
        return Ok(None);
    }
    if header.has_fast_commits() {
        return Err(Errno::EOPNOTSUPP);
    }
    let next = transactions(image, place, &header, home)?;
    Ok(Some(Emptied { header, next }))
}

/// A journal whose transactions are known.
pub(in super::super) struct Emptied {
    header: Header,
    next: u32,
}

impl Emptied {
    /// Says in the image that they are home. Errors: `EIO`.
    pub(in super::super) fn settle(
        mut self,
        image: &dyn Backing,
        place: &Place,
    ) -> Result<(), Errno> {
        self.header.set(image, place, self.next.wrapping_add(1), 0)
    }
}
