//! The management of a switch: commands and replies as those of `vde_switch`.
//!
//! [`commands`] is the table of commands; the files named after its menus say what they do;
//! [`Session`] is one conversation, at a socket, on a console or in the program; [`serve`] has the
//! sockets and the console. [`Reply`] has the layout of answers.

mod arguments;
mod commands;
mod console;
mod debug;
mod general;
mod hash;
mod port;
mod reply;
mod session;
mod tree;
mod vlan;

pub use console::Console;
pub use reply::Reply;
pub use session::{Outcome, Session};
