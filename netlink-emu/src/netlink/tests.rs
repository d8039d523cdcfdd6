//! The sockets as programs use them.
