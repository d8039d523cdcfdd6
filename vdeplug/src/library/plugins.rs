//! What libvdeplug has here: the library, its plugins, and the Debian packages that bring them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use vde_sys::{Libvdeplug, SONAME};

use crate::error::OpenError;

/// The Debian package of the library.
pub const LIBRARY_PACKAGE: &str = "libvdeplug2";

/// The schemes whose plugins are in Debian packages of their own, with what they are.
pub const PLUGINS: [(&str, &str); 5] = [
    ("slirp", "the Internet, native here too"),
    ("pcap", "an interface of the kernel"),
    ("vdesl", "a serial line"),
    ("vlan", "802.1Q, native here too"),
    ("agno", "encryption, native here too"),
];

/// The Debian package of the plugin of a scheme.
fn package(scheme: &str) -> Option<String> {
    PLUGINS.iter().any(|(name, _)| *name == scheme).then(|| format!("libvdeplug-{scheme}"))
}

/// Whether libvdeplug can be loaded here.
#[must_use]
pub fn is_installed() -> bool {
    vde_sys::library().is_ok()
}

/// Whether libvdeplug and its plugin for a scheme are here.
#[must_use]
pub fn has_plugin(scheme: &str) -> bool {
    is_installed() && find(scheme).is_some()
}

/// Loads the library for `place`, a locator with this scheme.
pub(super) fn library(
    place: &str,
    scheme: &str,
    natives: &str,
) -> Result<&'static Libvdeplug, OpenError> {
    let error = match vde_sys::library() {
        Ok(library) => return Ok(library),
        Err(error) => error,
    };
    tracing::debug!(%error, "libvdeplug cannot be loaded");
    let known = package(scheme);
    if known.is_none() && !natives.is_empty() {
        return Err(OpenError::UnknownScheme {
            scheme: scheme.to_owned(),
            known: listing(natives),
        });
    }
    let packages = [Some(LIBRARY_PACKAGE.to_owned()), known];
    let packages: Vec<_> = packages.into_iter().flatten().collect();
    Err(OpenError::Absent {
        place: place.to_owned(),
        problem: format!("{SONAME} is not installed"),
        remedy: format!("apt-get install {}", packages.join(" ")),
    })
}

/// The error for a scheme whose plugin the library does not find.
pub(super) fn missing(place: &str, scheme: &str, natives: &str) -> OpenError {
    match package(scheme) {
        Some(package) => OpenError::Absent {
            place: place.to_owned(),
            problem: format!("libvdeplug_{scheme}.so is not installed"),
            remedy: format!("apt-get install {package}"),
        },
        None => OpenError::UnknownScheme { scheme: scheme.to_owned(), known: listing(natives) },
    }
}

/// Lists what there is, for somebody who asked for something else.
fn listing(natives: &str) -> String {
    let plugins: Vec<_> = PLUGINS.iter().map(|(name, _)| format!("{name}://")).collect();
    let plugins = plugins.into_iter().filter(|name| !natives.contains(name.as_str()));
    format!("{natives}; by plugins of libvdeplug: {}", plugins.collect::<Vec<_>>().join(" "))
}

/// Loads the plugins of all schemes in a text and keeps them.
///
/// The library unloads a plugin with its last connection. A thread that the plugin has started may
/// not be ready for that.
#[expect(unsafe_code, reason = "loading a library runs its initializers")]
pub(super) fn keep(text: &str) {
    let schemes = text.split("://").filter_map(|before| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        let start = before.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
        Some(&before[start..]).filter(|scheme| !scheme.is_empty())
    });
    for path in schemes.filter_map(find) {
        let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
        // SAFETY: the library would load the plugin in the same way.
        match unsafe { Library::open(Some(&path), flags) } {
            Ok(plugin) => drop(plugin),
            Err(error) => tracing::debug!(%error, "a plugin of libvdeplug cannot be loaded"),
        }
    }
}

/// Finds the file of a plugin where the library looks for it.
fn find(scheme: &str) -> Option<PathBuf> {
    let file = format!("libvdeplug_{scheme}.so");
    folders().into_iter().map(|folder| folder.join(&file)).find(|path| path.exists())
}

fn folders() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("VDEPLUGIN_PATH") {
        return env::split_paths(&path).collect();
    }
    let inside = |folder: PathBuf| folder.join("vdeplug");
    let beside = own_folder();
    let path = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<_> = beside.iter().cloned().map(inside).collect();
    folders.extend(beside);
    folders.extend(env::split_paths(&path).map(inside));
    folders.extend(["/lib/vdeplug", "/usr/lib/vdeplug"].map(PathBuf::from));
    folders
}

/// The folder that the library was loaded from.
fn own_folder() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut found = path.filter(|path| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libvdeplug.so"))
    });
    Path::new(found.next()?).parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_package() {
        let error = missing("pcap://eth0", "pcap", "vde://");
        let expected = "pcap://eth0: libvdeplug_pcap.so is not installed (apt-get install \
                        libvdeplug-pcap)";
        assert_eq!((error.to_string().as_str(), error.errno()), (expected, libc::ENOENT));
        let error = missing("odd://x", "odd", "vde:// vlan:// agno://");
        let expected = "odd://: no such transport (there are: vde:// vlan:// agno://; by plugins \
                        of libvdeplug: slirp:// pcap:// vdesl://)";
        assert_eq!((error.to_string().as_str(), error.errno()), (expected, libc::EPROTONOSUPPORT));
    }

    #[test]
    fn plugins_are_found_where_the_library_finds_them() {
        if is_installed() {
            assert!(has_plugin("vde"), "{:?}", folders());
        }
        assert!(!has_plugin("nosuch"));
    }
}
