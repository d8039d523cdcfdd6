//! The requests on a small stack.
