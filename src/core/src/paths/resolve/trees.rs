//! Generated trees on the way of a path: those of stacks in procfs and sysfs, and mounted ones.

use std::sync::Arc;

use umvu_abi::{Tid, module::Mounted, tree::Tree};

use super::{
    super::lexical::{components, number},
    Resolver, World,
};
use crate::view::Mount;

/// A position in the tree of a stack.
pub(super) struct Located {
    pub(super) mount: Arc<Mount>,
    pub(super) tree: Arc<dyn Tree>,
    pub(super) inner: String,
}

impl<W: World> Resolver<'_, W> {
    /// The links of procfs whose target depends on the reader.
    pub(super) fn link_of_procfs(&self, path: &[u8]) -> Option<String> {
        match path.strip_prefix(b"/proc/")? {
            b"self" => Some(self.leader.to_string()),
            b"thread-self" => Some(format!("{}/task/{}", self.leader, self.caller)),
            // On Linux always self/net. A thread that has chosen another stack than its leader
            // sees its own here.
            b"net" if self.caller == self.leader => Some("self/net".to_owned()),
            b"net" => Some("thread-self/net".to_owned()),
            b"mounts" => Some("self/mounts".to_owned()),
            _ => None,
        }
    }

    /// Finds the tree that a canonical path lies in.
    pub(super) fn locate(&self, path: &[u8]) -> Option<Located> {
        if self.territory.is_empty() {
            return None;
        }
        if let Some(located) = self.mounted_tree(path) {
            return Some(located);
        }
        let mut parts = components(path);
        let (mount, tree) = match parts.next()? {
            b"proc" => match parts.next()? {
                b"sys" if parts.next()? == b"net" => {
                    let mount = self.world.network_of(self.caller)?;
                    let tree = mount.stack().proc_sys_net()?;
                    (mount, tree)
                }
                process => {
                    let mut task = number(process)?;
                    let mut part = parts.next()?;
                    if part == b"task" {
                        task = number(parts.next()?)?;
                        part = parts.next()?;
                    }
                    if let Some((mount, tree)) = self.territory.procfs(part)
                        && parts.next().is_none()
                    {
                        let inner = String::from_utf8_lossy(path.strip_prefix(b"/proc/")?);
                        return Some(Located { mount, tree, inner: inner.into_owned() });
                    }
                    if part != b"net" {
                        return None;
                    }
                    let mount = self.world.network_of(Tid(task))?;
                    let tree = mount.stack().proc_net()?;
                    (mount, tree)
                }
            },
            b"sys" => {
                let found = match parts.next()? {
                    b"class" => parts.next()? == b"net",
                    // Where chdir(2) through a link of the kernel's class directory leads.
                    b"devices" => parts.next()? == b"virtual" && parts.next()? == b"net",
                    _ => false,
                };
                let mount = self.world.network_of(self.caller).filter(|_| found)?;
                let tree = mount.stack().sys_class_net()?;
                (mount, tree)
            }
            _ => return None,
        };
        let inner: Vec<&[u8]> = parts.collect();
        // A name that is not UTF-8 is in no tree; the replacement character finds nothing either.
        let inner = String::from_utf8_lossy(&inner.join(&b'/')).into_owned();
        Some(Located { mount, tree, inner })
    }

    /// The generated tree that is mounted above a path.
    fn mounted_tree(&self, path: &[u8]) -> Option<Located> {
        let (mount, inner) = self.territory.tree(path)?;
        let Mounted::Tree(tree) = &mount.content else { return None };
        let inner = String::from_utf8_lossy(inner).into_owned();
        Some(Located { mount: Arc::clone(mount), tree: Arc::clone(tree), inner })
    }
}
