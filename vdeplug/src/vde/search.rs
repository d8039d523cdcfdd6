//! Where the empty locator leads.

use std::{
    env, fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use crate::vnl::Vnl;

/// The longest file that is read for a locator.
const LONGEST_LOCATOR: u64 = 4096;

/// Returns the places to look for the default network, in order.
fn places(home: Option<&Path>) -> Vec<PathBuf> {
    let private = [".vdeplug/default", ".vde2/default.switch"];
    let of_home = private.iter().filter_map(|name| Some(home?.join(name)));
    of_home.chain(["/var/run/vde.ctl".into(), "/tmp/vde.ctl".into()]).collect()
}

/// Finds the default network: a file that holds a locator, or the directory of a switch.
pub(crate) fn default_network() -> Option<Vnl> {
    let home = env::var_os("HOME").map(PathBuf::from);
    places(home.as_deref()).iter().find_map(|place| network_at(place))
}

/// Reads the locator in the first line of a file; None if the path is no such file.
///
/// A file that points back to the default would be searched for ever, and is none.
pub(crate) fn locator_in(place: &Path) -> Option<Vnl> {
    let metadata = fs::metadata(place).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST_LOCATOR {
        return None;
    }
    let text = fs::read_to_string(place).ok()?;
    let vnl: Vnl = text.lines().next()?.trim().parse().ok()?;
    (vnl.scheme != "vde" || !vnl.path.is_empty()).then_some(vnl)
}

fn network_at(place: &Path) -> Option<Vnl> {
    let metadata = fs::metadata(place).ok()?;
    if metadata.is_file() {
        return locator_in(place);
    }
    let directory = if metadata.file_type().is_socket() { place.parent()? } else { place };
    directory.join("ctl").exists().then(|| Vnl {
        scheme: "vde".to_owned(),
        path: directory.to_string_lossy().into_owned(),
        parameters: crate::vnl::Parameters::default(),
        nested: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_default_comes_before_the_system_one() {
        let places = places(Some(Path::new("/home/ann")));
        assert_eq!(places[0], Path::new("/home/ann/.vdeplug/default"));
        assert_eq!(places[3], Path::new("/tmp/vde.ctl"));
        assert_eq!(super::places(None)[0], Path::new("/var/run/vde.ctl"));
    }

    #[test]
    fn a_file_holds_a_locator_and_a_directory_is_a_switch() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("default");
        fs::write(&file, "vxvde://239.1.2.3/vni=4\n").expect("a file");
        assert_eq!(network_at(&file).map(|v| v.scheme), Some("vxvde".to_owned()));
        fs::write(&file, "/tmp/sw\n# a remark").expect("a file");
        assert_eq!(network_at(&file).map(|v| v.path), Some("/tmp/sw".to_owned()));
        for useless in ["", "vde://\n", "a[b\n"] {
            fs::write(&file, useless).expect("a file");
            assert_eq!(network_at(&file), None);
        }
        assert_eq!(network_at(directory.path()), None);
        fs::write(directory.path().join("ctl"), "").expect("a file");
        let found = network_at(directory.path()).map(|v| PathBuf::from(v.path));
        assert_eq!(found.as_deref(), Some(directory.path()));
    }
}
