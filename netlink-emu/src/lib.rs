//! The Linux network configuration interfaces for any stack.
