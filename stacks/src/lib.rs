//! Network stacks: smoltcp, kernel namespaces, the host and none.
