//! LZO1X, of which only unpacking is needed. The stream: Documentation/staging/lzo.rst of Linux.

/// What literals the last instruction has left behind: how many, 4 for more than 3.
const MANY: usize = 4;

/// The input, the output, and how far they are.
struct Unpacking<'a, 'b> {
    packed: &'a [u8],
    out: &'b mut [u8],
    done: usize,
}

/// Unpacks a block; returns its length. None for what is broken or longer than `out`.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut it = Unpacking { packed, out, done: 0 };
    let mut state = 0;
    if let Some(count) = usize::from(*packed.first()?).checked_sub(17).filter(|count| *count > 0) {
        it.byte()?;
        it.literals(count)?;
        state = count.min(MANY);
    }
    loop {
        let code = usize::from(it.byte()?);
        let (length, distance, literals) = match code {
            0..16 if state == 0 => {
                let count = 3 + it.length(code, 15)?;
                it.literals(count)?;
                state = MANY;
                continue;
            }
            0..16 => {
                let distance = (usize::from(it.byte()?) << 2) + (code >> 2);
                let (length, least) = if state == MANY { (3, 2049) } else { (2, 1) };
                (length, distance + least, code & 3)
            }
            16..32 => {
                let length = 2 + it.length(code & 7, 7)?;
                let (distance, literals) = it.distance()?;
                let distance = 16384 + ((code & 8) << 11) + distance;
                if distance == 16384 {
                    return Some(it.done);
                }
                (length, distance, literals)
            }
            32..64 => {
                let length = 2 + it.length(code & 31, 31)?;
                let (distance, literals) = it.distance()?;
                (length, distance + 1, literals)
            }
            _ => {
                let length = if code < 128 { 3 + (code >> 5 & 1) } else { 5 + (code >> 5 & 3) };
                let distance = (usize::from(it.byte()?) << 3) + (code >> 2 & 7) + 1;
                (length, distance, code & 3)
            }
        };
        it.again(length, distance)?;
        it.literals(literals)?;
        state = literals;
    }
}

impl Unpacking<'_, '_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.packed.split_first()?;
        self.packed = rest;
        Some(*first)
    }

    /// A length in the instruction, or, when that is 0, behind it.
    fn length(&mut self, here: usize, most: usize) -> Option<usize> {
        if here != 0 {
            return Some(here);
        }
        let zeros = self.packed.iter().take_while(|byte| **byte == 0).count();
        self.packed = &self.packed[zeros..];
        Some(most + zeros * 255 + usize::from(self.byte()?))
    }

    /// A distance of 14 bits and the count of the literals behind.
    fn distance(&mut self) -> Option<(usize, usize)> {
        let word = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?]));
        Some((word >> 2, word & 3))
    }

    fn literals(&mut self, count: usize) -> Option<()> {
        let (now, rest) = self.packed.split_at_checked(count)?;
        self.out.get_mut(self.done..self.done + count)?.copy_from_slice(now);
        (self.packed, self.done) = (rest, self.done + count);
        Some(())
    }

    /// Repeats what is `distance` back.
    fn again(&mut self, length: usize, distance: usize) -> Option<()> {
        let (from, end) = (self.done.checked_sub(distance)?, self.done.checked_add(length)?);
        if end > self.out.len() {
            return None;
        }
        if distance >= length {
            self.out.copy_within(from..from + length, self.done);
        } else {
            for at in 0..length {
                self.out[self.done + at] = self.out[from + at];
            }
        }
        self.done = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_repetitions_are_unpacked() {
        let packed = [21, b'a', b'b', b'c', b'd', 0b001_00111, 12, 0, 17, 0, 0];
        let mut out = [0; 32];
        assert_eq!(unpack(&packed, &mut out), Some(13));
        assert_eq!(&out[..13], b"abcdabcdabcda");
        assert_eq!(unpack(&packed, &mut out[..12]), None);
        assert_eq!(unpack(&packed[..9], &mut out), None);
        assert_eq!(unpack(&[], &mut out), None);
    }
}
