//! Network stacks: smoltcp, kernel namespaces, the host and none.
//!
//! [`Vunet`] is the module that mounts them; each submodule holds one kind of stack and implements
//! [`umvu_abi::net::NetStack`].

mod ffi;
mod module;
mod null;
mod real;
mod smoltcp;

pub use module::Vunet;
