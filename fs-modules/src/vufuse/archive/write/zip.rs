//! Writing zip: as Info-ZIP's zip(1) does, with modes, owners, symbolic links and times to the second.

use std::{
    io::{self, Seek, Write},
    sync::Arc,
};

use umvu_abi::files::{Attributes, Backing, Time};
use zip::{
    CompressionMethod, DateTime, ZipArchive, ZipWriter,
    write::{FullFileOptions, SimpleFileOptions},
};

use super::{Member, Units, View, cannot, copy};
use crate::vufuse::archive::{
    input::{Input, Place},
    zip::UNIX,
};

/// From where on the sizes of a member have 64 bits.
const LARGE: u64 = u32::MAX as u64;

/// Where the attributes of a member are in its entry of the directory at the end.
const ATTRIBUTES: u64 = 38;

/// Puts whole modes into an archive that was written: the library keeps nine bits. Errors: those of reading
/// and writing.
pub(super) fn complete(image: &Arc<dyn Backing>, members: &[Member<'_>]) -> io::Result<()> {
    let mut archive = ZipArchive::new(Input::new(Place::Image(Arc::clone(image)))?)?;
    let named = members.iter().filter(|member| !member.path.is_empty());
    for (index, member) in named.enumerate().filter(|(_, it)| it.attributes.mode & 0o7000 != 0) {
        let at = archive.by_index_raw(index)?.central_header_start() + ATTRIBUTES;
        image.write_at(at, &(member.attributes.mode << 16).to_le_bytes())?;
    }
    Ok(())
}

/// Writes members, and the directory at the end; returns what it wrote to. Errors: `EINVAL` for what cannot
/// be in such an archive, those of reading and writing.
pub(super) fn write<W: Write + Seek>(
    out: W,
    members: &[Member<'_>],
    units: &Units,
) -> io::Result<W> {
    let mut writer = ZipWriter::new(out);
    for member in members.iter().filter(|member| !member.path.is_empty()) {
        let name = std::str::from_utf8(&member.path);
        let name = name.map_err(|_| cannot(member, "its name is not UTF-8"))?;
        let options = options(&member.attributes)?;
        match &member.content {
            View::Directory => writer.add_directory(name, options)?,
            View::Link(target) => {
                let target = std::str::from_utf8(target);
                let target = target.map_err(|_| cannot(member, "its target is not UTF-8"))?;
                writer.add_symlink(name, target, options)?;
            }
            View::File(data) => {
                let method = data.base().and_then(|base| units.method(base.unit()?));
                let method = method.unwrap_or(CompressionMethod::Deflated);
                let options = options.compression_method(method).large_file(data.size() >= LARGE);
                writer.start_file(name, options)?;
                copy(member, 0, data.size(), &mut writer)?;
            }
            View::Special => {
                return Err(cannot(member, "neither a file nor a directory nor a link"));
            }
        }
    }
    Ok(writer.finish()?)
}

fn options(looks: &Attributes) -> io::Result<FullFileOptions<'static, 'static>> {
    let [uid, gid] = [looks.uid, looks.gid].map(u32::to_le_bytes);
    let owner = [&[1, 4][..], &uid, &[4], &gid].concat();
    let seconds = i32::try_from(looks.mtime.seconds).ok().map(i32::cast_unsigned);
    let options = SimpleFileOptions::default()
        .unix_permissions(looks.mode & 0o7777)
        .last_modified_time(dos(looks.mtime))
        .into_full_options();
    let mut options = match seconds {
        Some(seconds) => options.with_extended_timestamp(Some(seconds), None, None)?,
        None => options,
    };
    options.add_extra_field(UNIX, owner, false)?;
    Ok(options)
}

/// The time of MS-DOS, universal as it is read; the nearest that there is.
fn dos(time: Time) -> DateTime {
    let days = time.seconds.div_euclid(86_400);
    let second = time.seconds.rem_euclid(86_400);
    // Years that begin in March, in cycles of 400.
    let shifted = days + 719_468;
    let (cycle, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (400 * cycle + year + i64::from(month >= 10), (month + 2) % 12 + 1);
    let small = |number: i64| u8::try_from(number).unwrap_or(0);
    let clock = [second / 3600, second / 60 % 60, second % 60].map(small);
    let year = u16::try_from(year.clamp(0, 9999)).unwrap_or(1980);
    let found =
        DateTime::from_date_and_time(year, small(month), small(day), clock[0], clock[1], clock[2]);
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_calendar() {
        let said = |seconds| {
            let time = dos(Time { seconds, nanos: 0 });
            let date = [time.year(), time.month().into(), time.day().into()];
            (date, [time.hour(), time.minute(), time.second()])
        };
        assert_eq!(said(1_000_000_000), ([2001, 9, 9], [1, 46, 40]));
        assert_eq!(said(951_782_400), ([2000, 2, 29], [0, 0, 0]));
        assert_eq!(said(1_077_926_399), ([2004, 2, 27], [23, 59, 58]));
        assert_eq!(said(0), ([1980, 1, 1], [0, 0, 0]));
    }
}
