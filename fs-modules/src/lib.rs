//! File systems and devices of umvu.
