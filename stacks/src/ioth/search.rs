//! Where a plugin is looked for, in the order of libioth.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::ffi::library::Namespace;

/// The environment variable that names the system's directory of plugins.
pub(crate) const VARIABLE: &str = "SYSTEM_IOTH_PATH";
/// The system's directory of plugins, unless the variable names another.
const SYSTEM: &str = "/usr/local/lib/ioth";

/// A file that may be the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The file.
    pub(crate) path: PathBuf,
    /// Where it is linked.
    pub(crate) namespace: Namespace,
}

/// A stack by name or by file: what its symbols are called, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    /// The STACK in `ioth_STACK_newstack`.
    pub(crate) stack: String,
    /// The files, the first first.
    pub(crate) candidates: Vec<Candidate>,
}

impl Search {
    /// Looks for a stack as the environment of who mounts it says, and then this process'; a name
    /// with a slash is a file.
    pub(crate) fn of(source: &str, environment: &[OsString]) -> Self {
        if source.contains('/') {
            return Self::file(Path::new(source));
        }
        let variable = |name: &str| {
            let given = environment.iter().find_map(|pair| value(pair, name));
            given.or_else(|| env::var_os(name)).filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        // Without a home, libioth takes the current directory.
        let home = variable("HOME").unwrap_or_else(|| PathBuf::from("."));
        let system = variable(VARIABLE).unwrap_or_else(|| PathBuf::from(SYSTEM));
        Self::below(source, &[home.join(".ioth"), system])
    }

    fn file(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name.strip_prefix("ioth_").unwrap_or(&name);
        let (stack, namespace) = match name.strip_suffix("-r") {
            Some(stack) => (stack, Namespace::Base),
            None => (name, Namespace::Own),
        };
        let candidates = vec![Candidate { path: path.to_owned(), namespace }];
        Self { stack: stack.to_owned(), candidates }
    }

    fn below(stack: &str, directories: &[PathBuf]) -> Self {
        let candidates = directories.iter().flat_map(|directory| {
            let file = |end: &str| directory.join(format!("ioth_{stack}{end}"));
            [
                Candidate { path: file("-r.so"), namespace: Namespace::Base },
                Candidate { path: file(".so"), namespace: Namespace::Own },
            ]
        });
        Self { stack: stack.to_owned(), candidates: candidates.collect() }
    }

    /// All places in one phrase.
    pub(crate) fn places(&self) -> String {
        let paths: Vec<_> =
            self.candidates.iter().map(|one| one.path.display().to_string()).collect();
        paths.join(", ")
    }
}

/// The value in `NAME=VALUE`, if it is that name's.
fn value(pair: &OsStr, name: &str) -> Option<OsString> {
    let value = pair.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(OsStr::from_bytes(value).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_who_mounts_comes_first() {
        let environment = ["HOMER=/no", "HOME=/h", "SYSTEM_IOTH_PATH=/s"].map(OsString::from);
        let search = Search::of("x", &environment);
        let wanted = "/h/.ioth/ioth_x-r.so, /h/.ioth/ioth_x.so, /s/ioth_x-r.so, /s/ioth_x.so";
        assert_eq!(search.places(), wanted);
    }

    #[test]
    fn the_order_is_libioths() {
        let search = Search::below("x", &["/h/.ioth".into(), "/sys".into()]);
        let found: Vec<_> = search
            .candidates
            .iter()
            .map(|one| (one.path.to_str().expect("ASCII"), one.namespace))
            .collect();
        assert_eq!(
            found,
            [
                ("/h/.ioth/ioth_x-r.so", Namespace::Base),
                ("/h/.ioth/ioth_x.so", Namespace::Own),
                ("/sys/ioth_x-r.so", Namespace::Base),
                ("/sys/ioth_x.so", Namespace::Own),
            ]
        );
    }

    #[test]
    fn a_path_names_the_file_and_thereby_the_stack() {
        let search = Search::of("./lib/ioth_picox-r.so", &[]);
        assert_eq!((search.stack.as_str(), search.candidates.len()), ("picox", 1));
        assert_eq!(search.candidates[0].namespace, Namespace::Base);
        assert_eq!(Search::of("/a/ioth_lwip.so", &[]).candidates[0].namespace, Namespace::Own);
    }
}
