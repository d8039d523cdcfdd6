//! The sending half alone.
