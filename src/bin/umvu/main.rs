//! umvu.
fn main() {}
