//! What umvu reads of programs (elf(5)): 64-bit files of this machine's byte order.

/// A part of a file that is loaded, or that says something (`Elf64_Phdr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Corresponds to `p_type`.
    pub kind: u32,
    /// Corresponds to `p_flags`.
    pub flags: u32,
    /// Corresponds to `p_offset`.
    pub offset: u64,
    /// Corresponds to `p_vaddr`.
    pub address: u64,
    /// Corresponds to `p_filesz`.
    pub file_size: u64,
    /// Corresponds to `p_memsz`.
    pub memory_size: u64,
}

/// The header of a file, and where its segments are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Corresponds to `e_type`.
    pub kind: u16,
    /// Corresponds to `e_machine`.
    pub machine: u16,
    /// Corresponds to `e_entry`.
    pub entry: u64,
    /// Where the table of segments begins and ends, in bytes of the file.
    pub table: (u64, u64),
}

/// A shared object (`ET_DYN`).
pub const DYNAMIC: u16 = 3;
/// A segment that is loaded (`PT_LOAD`).
pub const LOAD: u32 = 1;
/// The name of the dynamic linker (`PT_INTERP`).
pub const INTERPRETER: u32 = 3;

/// The size of the header of a file (`Elf64_Ehdr`).
pub const HEADER_SIZE: usize = 64;
/// The size of a description of a segment (`Elf64_Phdr`).
const SEGMENT_SIZE: u16 = 56;
/// How many segments are read.
const SEGMENTS_LIMIT: u64 = 1024;

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_ne_bytes(*word))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))
}

/// Reads the header at the beginning of a file; None for what is no 64-bit ELF file of this byte order.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header> {
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, order] || half(bytes, 54)? != SEGMENT_SIZE {
        return None;
    }
    let start = long(bytes, 32)?;
    let count = u64::from(half(bytes, 56)?).min(SEGMENTS_LIMIT);
    Some(Header {
        kind: half(bytes, 16)?,
        machine: half(bytes, 18)?,
        entry: long(bytes, 24)?,
        table: (start, start.checked_add(count * u64::from(SEGMENT_SIZE))?),
    })
}

/// Reads a table of segments.
#[must_use]
pub fn segments(table: &[u8]) -> Vec<Segment> {
    let read = |bytes: &[u8]| {
        Some(Segment {
            kind: word(bytes, 0)?,
            flags: word(bytes, 4)?,
            offset: long(bytes, 8)?,
            address: long(bytes, 16)?,
            file_size: long(bytes, 32)?,
            memory_size: long(bytes, 40)?,
        })
    };
    table.chunks_exact(usize::from(SEGMENT_SIZE)).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("a program can be read")
    }

    #[test]
    fn programs_name_their_dynamic_linker() {
        let bytes = own();
        let header = header(&bytes).expect("this is a program");
        let (from, to) = header.table;
        let place = |at: u64| usize::try_from(at).expect("fits");
        let found = segments(&bytes[place(from)..place(to)]);
        let linker = found.iter().find(|segment| segment.kind == INTERPRETER).expect("dynamic");
        let name = &bytes[place(linker.offset)..place(linker.offset + linker.file_size)];
        assert!(name.starts_with(b"/") && name.ends_with(b"\0"));
        assert!(found.iter().any(|segment| segment.kind == LOAD && segment.flags & 1 != 0));
    }

    #[test]
    fn what_is_cut_or_something_else_is_no_program() {
        let bytes = own();
        for length in 0..HEADER_SIZE - 6 {
            assert_eq!(header(&bytes[..length]), None, "{length}");
        }
        let mut other = bytes;
        other[4] = 1;
        assert_eq!(header(&other), None);
        assert_eq!(segments(&[7; 55]), []);
    }
}
