//! Directory records: ECMA-119, 9.1.

use umvu_abi::{
    Errno,
    files::{Backing, Time},
};

use super::volume::{SECTOR, exact};

/// The fixed part of a record.
const FIXED: usize = 33;

/// A little-endian number of 32 bits; 0 behind the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let byte = |at| u32::from(bytes.get(at).copied().unwrap_or(0));
    byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16 | byte(at + 3) << 24
}

/// One of 16 bits.
pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at) & 0xffff
}

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    /// Where it is in the image.
    pub(super) at: u64,
    pub(super) length: u64,
    block: u32,
    pub(super) size: u32,
    pub(super) time: Time,
    pub(super) is_directory: bool,
    /// More of the file is in the next record.
    pub(super) continues: bool,
    pub(super) name: Vec<u8>,
    /// What extensions add.
    pub(super) extra: Vec<u8>,
}

impl Record {
    /// Reads a record. Errors: `EIO`; `ENOENT` for the filler at the end of a sector.
    pub(super) fn read(image: &dyn Backing, at: u64) -> Result<Self, Errno> {
        let mut bytes = [0; 255];
        let room = usize::try_from(SECTOR - at % SECTOR).map_err(|_| Errno::EIO)?.min(255);
        exact(image, at, &mut bytes[..room])?;
        let length = usize::from(bytes[0]);
        if length == 0 {
            return Err(Errno::ENOENT);
        }
        let named = usize::from(bytes[32]);
        let end = FIXED + named;
        if length > room || end > length {
            return Err(Errno::EIO);
        }
        let extra = bytes[..length].get(end + (named + 1) % 2..).unwrap_or_default();
        Ok(Self {
            at,
            length: length as u64,
            block: word(&bytes, 2).wrapping_add(u32::from(bytes[1])),
            size: word(&bytes, 10),
            time: short_time(&bytes[18..25]),
            is_directory: bytes[25] & 2 != 0,
            continues: bytes[25] & 0x80 != 0,
            name: bytes[FIXED..end].to_vec(),
            extra: extra.to_vec(),
        })
    }

    /// Where its content begins.
    pub(super) fn start(&self) -> u64 {
        u64::from(self.block) * SECTOR
    }

    /// Where the next record of the same directory would be.
    pub(super) fn next(&self) -> u64 {
        self.at + self.length
    }
}

/// The beginning of the next sector.
pub(super) fn next_sector(at: u64) -> u64 {
    (at / SECTOR + 1) * SECTOR
}

/// Seconds since 1970 of a date of the Gregorian calendar.
fn seconds(date: [i64; 6], quarters: u8) -> i64 {
    let [year, month, day, hour, minute, second] = date;
    // Years begin in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let in_era = year.rem_euclid(400);
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468;
    let zone = i64::from(quarters.cast_signed()) * 15 * 60;
    days * 86_400 + hour * 3600 + minute * 60 + second - zone
}

/// A time in 7 bytes.
pub(super) fn short_time(bytes: &[u8]) -> Time {
    let Some(&[year, month, day, hour, minute, second, zone]) = bytes.first_chunk() else {
        return Time::default();
    };
    if month == 0 {
        return Time::default();
    }
    let [year, month, day, hour, minute, second] =
        [year, month, day, hour, minute, second].map(i64::from);
    let seconds = seconds([year + 1900, month, day, hour, minute, second], zone);
    Time { seconds, nanos: 0 }
}

/// A time in 17 bytes: digits, and the zone.
pub(super) fn long_time(bytes: &[u8]) -> Time {
    let digits = |from: usize, to: usize| {
        let digit = |byte: &u8| i64::from(byte.wrapping_sub(b'0') % 10);
        bytes.get(from..to).unwrap_or_default().iter().fold(0, |sum, byte| sum * 10 + digit(byte))
    };
    let date =
        [digits(0, 4), digits(4, 6), digits(6, 8), digits(8, 10), digits(10, 12), digits(12, 14)];
    if date[1] == 0 {
        return Time::default();
    }
    let nanos = u32::try_from(digits(14, 16) * 10_000_000).unwrap_or(0);
    Time { seconds: seconds(date, bytes.get(16).copied().unwrap_or(0)), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_both_forms_are_read() {
        let time = |seconds, nanos| Time { seconds, nanos };
        assert_eq!(short_time(&[70, 1, 1, 0, 0, 0, 0]), time(0, 0));
        assert_eq!(short_time(&[101, 2, 3, 5, 5, 6, 4]), time(981_173_106, 0));
        assert_eq!(long_time(b"2024022923595950\x00"), time(1_709_251_199, 500_000_000));
        assert_eq!(short_time(&[1, 2]), Time::default());
    }
}
