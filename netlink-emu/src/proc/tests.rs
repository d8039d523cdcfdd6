//! The files next to those of the kernel that runs the test.
