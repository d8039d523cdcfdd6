//! Tasks, views, mounts, system-call handlers and native sockets.
