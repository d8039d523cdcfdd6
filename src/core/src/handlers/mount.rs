//! mount(2) and umount2(2).

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use umvu_abi::{
    Errno, Tid,
    files::Outside,
    module::{MountError, MountRequest},
    patience::patiently,
};
use umvu_tracer::api::{Action, Call, SlowHandler};

use super::{
    bind, foreign, native,
    vu::{outcome, report},
};
use crate::{
    Core,
    dispatch::{Row, always, refused},
    files::{MountedFiles, whole::View},
    guest,
    paths::{
        lexical::below,
        locate::{self, os_path},
        resolve::{Last, Place},
    },
    view::Shown,
};

pub(super) const PATH_LIMIT: usize = 4096;
/// The kernel copies one page of mount data.
const DATA_LIMIT: usize = 4096;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        always(
            "mount",
            mount,
            "types of loaded modules, MS_BIND, MS_MOVE, MS_REMOUNT, flags of mounts; others are the kernel's",
        ),
        always("umount2", umount, "virtual mounts, MNT_FORCE, MNT_DETACH; others are the kernel's"),
    ];
    // The newer interface has no place for types of modules: util-linux falls back to mount(2).
    rows.extend(
        [
            "open_tree",
            "open_tree_attr",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "statmount",
            "listmount",
        ]
        .map(|name| refused(name, "programs fall back to mount(2) and /proc/self/mountinfo")),
    );
    rows
}

fn mount(core: &Core, call: &Call) -> Action {
    let flags = call.syscall.args[3];
    if flags & libc::MS_REMOUNT != 0 {
        return remount(core, call);
    }
    let fstype = match guest::read_optional_text(call, 2, PATH_LIMIT) {
        Ok(fstype) => fstype,
        Err(errno) => return errno.into(),
    };
    // A type of ours has a meaning of its own for the flags.
    if flags & libc::MS_MOVE != 0 && !core.view.serves(&fstype) {
        return move_mount(core, call);
    }
    let is_bind = flags & libc::MS_BIND != 0 && !core.view.serves(&fstype);
    let bind = core.view.bind_type().filter(|_| is_bind);
    let fstype = bind.map_or(fstype, str::to_owned);
    let native = native::of(core, call, &fstype);
    if native.is_none() && !core.view.serves(&fstype) {
        core.tasks.get(call.tid()).set_last_error("");
        let target = guest::read_text(call, 1, PATH_LIMIT);
        return match target.and_then(|target| core.absolute(call, target.as_bytes())) {
            Ok(target) => foreign::mount(core, call, &fstype, &target),
            Err(errno) => errno.into(),
        };
    }
    let (request, shown) = match decode(core, call, fstype) {
        Ok(request) if bind.is_some() => {
            let source = core.absolute(call, request.source.as_bytes()).ok();
            if source
                .as_ref()
                .is_some_and(|from| !bind::fits(core, call.tid(), from, &request.target))
            {
                core.tasks.get(call.tid()).set_last_error("");
                return Errno::ENOTDIR.into();
            }
            (request, source.and_then(|source| bind::shown(core, call.tid(), &source)))
        }
        Ok(request) => match native {
            Some(native) => native.instead_of(request),
            None => (request, None),
        },
        Err(errno) => return errno.into(),
    };
    // Opening a network may take a while (a handshake with a switch), and so may a file system.
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let call = call.clone();
    Action::Slow(SlowHandler(Box::new(move || {
        patiently(|| {
            let what = format!("mount {} {} at {}", request.fstype, request.source, request.target);
            core.tasks.get(call.tid()).set_last_error("");
            let result = core.mount(request, shown, call.tid(), call.guest.cwd_link().ok());
            core.say(call.tid(), b'N', || format!("{what}: {}", outcome(&result)));
            // A notice of the module stays when all is well.
            if result.is_ok() { Action::value(0) } else { report(&core, &call, result) }
        })
    })))
}

/// `MS_MOVE` of a virtual mount.
fn move_mount(core: &Core, call: &Call) -> Action {
    let place = |argument| {
        let path = guest::read_text(call, argument, PATH_LIMIT)?;
        core.absolute(call, path.as_bytes())
    };
    let (from, to) = match (place(0), place(1)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(errno), _) | (_, Err(errno)) => return errno.into(),
    };
    core.tasks.get(call.tid()).set_last_error("");
    if core.view.mount_at(&from).is_none() {
        return foreign::move_mount(core, call, &from);
    }
    let result = locate::resolve(core, call.tid(), to.as_bytes(), Last::Keep)
        .and_then(|place| match place {
            Place::Vacant(_) | Place::Missing(_) => Err(Errno::ENOENT),
            Place::Real(path) => std::fs::metadata(os_path(&path)).map(drop).map_err(Into::into),
            _ => Ok(()),
        })
        .map_err(Into::into)
        .and_then(|()| core.view.move_mount(&from, &to));
    core.publish_mounts();
    core.say(call.tid(), b'N', || format!("move {from} to {to}: {}", outcome(&result)));
    report(core, call, result)
}

/// `MS_REMOUNT` of a virtual mount: its flags. Errors: `EBUSY` while files are open for writing that may
/// not be written to any more.
fn remount(core: &Core, call: &Call) -> Action {
    let target = match guest::read_text(call, 1, PATH_LIMIT)
        .and_then(|target| core.absolute(call, target.as_bytes()))
    {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    let Some(mount) = core.view.mount_at(&target) else { return Action::Forward };
    if let Some(files) = mount.files() {
        let (before, flags) = (files.flags(), files.flags().remounted(call.syscall.args[3]));
        if flags.read_only() && !before.read_only() && has_writers(core, files) {
            return Errno::EBUSY.into();
        }
        files.set_flags(flags);
        core.publish_mounts();
    }
    Action::value(0)
}

fn decode(core: &Core, call: &Call, fstype: String) -> Result<MountRequest, Errno> {
    let target = guest::read_text(call, 1, PATH_LIMIT)?;
    Ok(MountRequest {
        source: guest::read_optional_text(call, 0, PATH_LIMIT)?,
        target: core.absolute(call, target.as_bytes())?,
        fstype,
        flags: call.syscall.args[3],
        data: guest::read_optional_text(call, 4, DATA_LIMIT)?,
        environment: environment(call.tid()),
        view: String::new(),
    })
}

impl Core {
    /// Mounts on behalf of a thread that stands in `cwd`. Errors: as [`View::mount_over`].
    ///
    /// [`View::mount_over`]: crate::view::View::mount_over
    pub(crate) fn mount(
        &self,
        request: MountRequest,
        shown: Option<Shown>,
        tid: Tid,
        cwd: Option<Vec<u8>>,
    ) -> Result<(), MountError> {
        let core = self.shared().ok_or(Errno::EIO)?;
        let outside: Arc<dyn Outside> = Arc::new(View::new(core, tid, cwd));
        let result = self.view.mount_over(request, shown, &outside);
        if self.view.survey_facets() {
            self.arm();
        }
        self.publish_mounts();
        result
    }

    /// Loads a module, and mounts what comes with it. Errors: as [`View::insert`].
    ///
    /// [`View::insert`]: crate::view::View::insert
    pub(crate) fn insert_module(&self, name: &str, permanent: bool) -> Result<(), MountError> {
        for standing in self.view.insert(name, permanent)? {
            let request = MountRequest {
                source: standing.source.to_owned(),
                target: standing.target.to_owned(),
                fstype: standing.fstype.to_owned(),
                flags: 0,
                data: String::new(),
                environment: Vec::new(),
                view: String::new(),
            };
            if let Err(error) = self.mount(request, None, Tid(0), None) {
                let _ = self.view.remove(name);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unloads a module, and takes away what came with it. Errors: as [`View::remove`].
    ///
    /// [`View::remove`]: crate::view::View::remove
    pub(crate) fn remove_module(&self, name: &str) -> Result<(), MountError> {
        for standing in self.view.remove(name)? {
            // Somebody may have taken it away already.
            let _ = release(self, standing.target, libc::MNT_FORCE);
        }
        self.publish_mounts();
        Ok(())
    }
}

/// What a program was started with.
fn environment(tid: Tid) -> Vec<OsString> {
    let bytes = std::fs::read(format!("/proc/{}/environ", tid.0)).unwrap_or_default();
    let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    variables.map(|variable| OsStr::from_bytes(variable).to_owned()).collect()
}

fn umount(core: &Core, call: &Call) -> Action {
    let flags = call.int(1);
    let target = match guest::read_text(call, 0, PATH_LIMIT)
        .and_then(|target| core.absolute(call, target.as_bytes()))
    {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    if core.view.mount_at(&target).is_none() {
        core.tasks.get(call.tid()).set_last_error("");
        return foreign::umount(core, call, &target);
    }
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let call = call.clone();
    Action::Slow(SlowHandler(Box::new(move || {
        patiently(|| {
            let result = release(&core, &target, flags);
            core.publish_mounts();
            core.say(call.tid(), b'N', || format!("unmount {target}: {}", outcome(&result)));
            report(&core, &call, result)
        })
    })))
}

/// Takes a mount away: `EBUSY` while sockets, processes or files use it, unless forced.
fn release(core: &Core, target: &str, flags: i32) -> Result<(), MountError> {
    core.sockets.sweep();
    let force = flags & libc::MNT_FORCE != 0;
    let lazy = flags & libc::MNT_DETACH != 0;
    // Without any lock: who serves the files may have something mounted itself meanwhile.
    if let Some(files) = core.view.mount_at(target).as_ref().and_then(|mount| mount.files()) {
        core.objects.write_back(files);
        // What cannot be written stays mounted, and is not lost yet.
        if !(force || lazy)
            && let Err(errno) = files.fs.sync()
        {
            let reason = format!(
                "{target}: cannot be written: {errno} (vuumount -f takes it away all the same)"
            );
            return Err(MountError::new(errno, reason));
        }
    }
    if lazy && let Some(mount) = core.view.mount_at(target) {
        // The whole tree leaves the view.
        for other in core.view.standing_on(&mount) {
            release(core, &other.target, flags)?;
        }
    }
    let mount = core.view.umount(target, &|mount| {
        if mount.files().is_some()
            && let Some(other) = core.view.standing_on(mount).first().filter(|_| !force)
        {
            return Some(format!("in use by what is mounted on {}", other.target));
        }
        if let Some(files) = mount.files() {
            if files.is_stood_on() && !(force || lazy) {
                let reason = "in use by a virtual disk or file system that stands on it";
                return Some(format!("{reason} (vuumount -f takes it away all the same)"));
            }
            let users = if force || lazy { Vec::new() } else { users_of(core, files) };
            let names: Vec<String> = users.iter().take(3).map(|tid| name_of(*tid)).collect();
            let reason = || {
                let names = names.join(", ");
                format!("in use by {names} (vuumount -f takes it away all the same)")
            };
            return (!names.is_empty()).then(reason);
        }
        let sockets = core.sockets.count_of(mount) + mount.stack().users();
        let tasks = core.tasks.users_of(mount);
        (!force && sockets + tasks > 0).then(|| {
            format!("in use by {sockets} sockets and {tasks} processes (vuumount -f closes them)")
        })
    })?;
    if let Some(files) = mount.files() {
        core.objects.forget(files, lazy);
        if lazy {
            files.forget_names();
        } else {
            mount.stop();
        }
        return Ok(());
    }
    core.sockets.close_all_of(&mount);
    core.tasks.leave_stack(&mount);
    mount.stop();
    Ok(())
}

/// Whether the text of a link in `/proc/PID` leads to a file of a mount.
fn leads_into(core: &Core, files: &Arc<MountedFiles>) -> impl Fn(&[u8]) -> bool {
    let root = core.objects.root().as_os_str().as_encoded_bytes().to_vec();
    let numbers: HashSet<u64> =
        core.objects.of_mount(files).into_iter().map(|(number, _)| number).collect();
    move |link: &[u8]| {
        let number = below(link, &root).and_then(|rest| {
            let first = rest.split(|byte| matches!(byte, b'/' | b' ')).next()?;
            std::str::from_utf8(first).ok()?.parse().ok()
        });
        number.is_some_and(|number: u64| numbers.contains(&number))
    }
}

/// The descriptors of a process that lead to a file of a mount.
fn descriptors_of(process: &Path, is_one: &impl Fn(&[u8]) -> bool) -> Vec<PathBuf> {
    let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.map(|entry| entry.path()).filter(|path| link_is(path, is_one)).collect()
}

fn link_is(path: &Path, is_one: &impl Fn(&[u8]) -> bool) -> bool {
    std::fs::read_link(path).is_ok_and(|link| is_one(link.as_os_str().as_encoded_bytes()))
}

/// Whether anybody has a file of a mount open for writing.
fn has_writers(core: &Core, files: &Arc<MountedFiles>) -> bool {
    let is_one = leads_into(core, files);
    let writes = |fd: &PathBuf| {
        let path = fd.to_string_lossy().replacen("/fd/", "/fdinfo/", 1);
        let info = std::fs::read_to_string(path).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| {
            flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0
        })
    };
    core.tasks.ids().into_iter().any(|tid| {
        let process = PathBuf::from(format!("/proc/{tid}"));
        descriptors_of(&process, &is_one).iter().any(writes)
    })
}

/// The threads that stand in a mount, or have a file of it open or mapped.
fn users_of(core: &Core, files: &Arc<MountedFiles>) -> Vec<Tid> {
    let is_one = leads_into(core, files);
    let uses = |tid: &Tid| {
        let process = PathBuf::from(format!("/proc/{tid}"));
        let maps = || std::fs::read(process.join("maps")).unwrap_or_default();
        let mapped = |line: &[u8]| {
            line.iter().position(|byte| *byte == b'/').is_some_and(|at| is_one(&line[at..]))
        };
        link_is(&process.join("cwd"), &is_one)
            || !descriptors_of(&process, &is_one).is_empty()
            || maps().split(|byte| *byte == b'\n').any(mapped)
    };
    core.tasks.ids().into_iter().filter(uses).collect()
}

fn name_of(tid: Tid) -> String {
    let name = std::fs::read(format!("/proc/{tid}/comm")).unwrap_or_default();
    format!("{} ({tid})", String::from_utf8_lossy(&name).trim_end())
}
