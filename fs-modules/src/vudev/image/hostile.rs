//! Images of any bytes: opening, reading and writing them must not panic, and must not write far
//! outside.

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Backing, Caller, GuestFile, Outside, Source},
};

use super::{Surroundings, open};

/// No image grows beyond this.
const LIMIT: usize = 4 << 20;

/// An image in memory.
#[derive(Debug, Default)]
struct Bytes(Mutex<Vec<u8>>);

impl Backing for Bytes {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.0.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut bytes = self.0.lock();
        let from = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = from.checked_add(data.len()).filter(|end| *end <= LIMIT);
        let end = end.ok_or(Errno::ENOSPC)?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[from..end].copy_from_slice(data);
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.0.lock().len() as u64)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// Every file that an image names is the same one.
#[derive(Debug)]
struct Everywhere(Arc<Bytes>);

impl Outside for Everywhere {
    fn files(&self, _: &[u8]) -> Result<Source, Errno> {
        Err(Errno::ENOENT)
    }

    fn backing(&self, _: &[u8], _: bool) -> Result<Arc<dyn Backing>, Errno> {
        Ok(Arc::clone(&self.0) as Arc<dyn Backing>)
    }

    fn descriptor(&self, _: i32) -> Result<Arc<dyn GuestFile>, Errno> {
        Err(Errno::EBADF)
    }

    fn caller(&self) -> Caller {
        Caller::root()
    }

    fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(path.to_vec())
    }
}

/// Opens an image of these bytes, and reads and writes what is in it; whether it could be opened.
pub fn image(bytes: &[u8]) -> bool {
    [true, false].map(|writable| open_as(bytes, writable)).contains(&true)
}

fn open_as(bytes: &[u8], writable: bool) -> bool {
    let image = Arc::new(Bytes(Mutex::new(bytes.to_vec())));
    let outside = Everywhere(Arc::clone(&image));
    let around = Surroundings::new(&outside, b"/image", writable);
    let Ok(disk) = open(image, &around) else { return false };
    let size = disk.size().unwrap_or(0);
    let mut buffer = [0; 1500];
    for at in [0, 700, size / 2, size.saturating_sub(100), size, u64::MAX - 10] {
        let _ = disk.read_at(at, &mut buffer);
        let _ = disk.write_at(at, &[7; 1500]);
        let _ = disk.discard(at, 600);
    }
    let _ = disk.flush();
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A checksum where VHD has one.
    fn seal(part: &mut [u8], at: usize) {
        put(part, at, &[0; 4]);
        let sum = part.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        put(part, at, &(!sum).to_be_bytes());
    }

    /// A dynamic image of 16 blocks of 4 KiB, the first of which is there.
    fn vhd() -> Vec<u8> {
        let mut image = vec![0; 2560 + 512 + 4096 + 512];
        let mut footer = [0; 512];
        put(&mut footer, 0, b"conectix");
        put(&mut footer, 16, &512_u64.to_be_bytes());
        put(&mut footer, 48, &65536_u64.to_be_bytes());
        put(&mut footer, 60, &3_u32.to_be_bytes());
        seal(&mut footer, 64);
        let mut header = [0; 1024];
        put(&mut header, 0, b"cxsparse");
        put(&mut header, 16, &1536_u64.to_be_bytes());
        put(&mut header, 28, &16_u32.to_be_bytes());
        put(&mut header, 32, &4096_u32.to_be_bytes());
        seal(&mut header, 36);
        put(&mut image, 0, &footer);
        put(&mut image, 512, &header);
        put(&mut image, 1536, &[0xff; 64]);
        put(&mut image, 1536, &5_u32.to_be_bytes());
        let end = image.len() - 512;
        put(&mut image, end, &footer);
        image
    }

    /// A sparse image of 16 grains of 4 KiB, the first of which is there.
    fn vmdk() -> Vec<u8> {
        let mut image = vec![0; 8192 + 4096];
        put(&mut image, 0, b"KDMV");
        for (at, value) in [(4, 1_u64), (12, 128), (20, 8), (56, 2), (64, 16)] {
            put(&mut image, at, &value.to_le_bytes());
        }
        put(&mut image, 8, &3_u32.to_le_bytes());
        put(&mut image, 44, &512_u32.to_le_bytes());
        put(&mut image, 48, &1_u64.to_le_bytes());
        put(&mut image, 512, &8_u32.to_le_bytes());
        put(&mut image, 1024, &3_u32.to_le_bytes());
        put(&mut image, 1536, &16_u32.to_le_bytes());
        image
    }

    /// An image for streams of 16 grains of 4 KiB, the first of which is there.
    fn stream() -> Vec<u8> {
        let mut image = vec![0; 8 * 512];
        put(&mut image, 0, b"KDMV");
        for (at, value) in [(4, 3_u64), (12, 128), (20, 8), (56, 1), (64, 8)] {
            put(&mut image, at, &value.to_le_bytes());
        }
        put(&mut image, 8, &0x3_0001_u32.to_le_bytes());
        put(&mut image, 44, &512_u32.to_le_bytes());
        image[77] = 1;
        put(&mut image, 512, &2_u32.to_le_bytes());
        put(&mut image, 1024, &6_u32.to_le_bytes());
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &[7; 4096]).expect("in memory");
        let packed = packer.finish().expect("in memory");
        let length = u32::try_from(packed.len()).expect("short");
        put(&mut image, 6 * 512 + 8, &length.to_le_bytes());
        put(&mut image, 6 * 512 + 12, &packed);
        image
    }

    /// An image of version 2 with clusters of 512 bytes, none of which is there.
    fn qcow2() -> Vec<u8> {
        let mut image = vec![0; 4 * 512];
        put(&mut image, 0, b"QFI\xfb");
        for (at, value) in [(4, 2_u32), (20, 9), (36, 4), (56, 1)] {
            put(&mut image, at, &value.to_be_bytes());
        }
        for (at, value) in [(24, 65536_u64), (40, 1536), (48, 512), (512, 1024)] {
            put(&mut image, at, &value.to_be_bytes());
        }
        for cluster in 0..4 {
            put(&mut image, 1024 + 2 * cluster, &1_u16.to_be_bytes());
        }
        image
    }

    const TEXT: &[u8] =
        b"# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT \"a\" 2\nRW 4 ZERO\n";

    #[test]
    fn sound_images_open() {
        for (name, bytes) in
            [("vhd", vhd()), ("vmdk", vmdk()), ("qcow2", qcow2()), ("stream", stream())]
        {
            assert!(image(&bytes), "{name}");
        }
        assert!(image(TEXT));
    }

    proptest! {
        #[test]
        fn damaged_images_are_no_panic(
            kind in 0..5_usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut bytes = [vhd(), vmdk(), qcow2(), TEXT.to_vec(), stream()][kind].clone();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            // What is sealed would be refused at once.
            if kind == 0 {
                seal(&mut bytes[512..1536], 36);
                let end = bytes.len() - 512;
                seal(&mut bytes[end..], 64);
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            image(&bytes);
        }
    }
}
