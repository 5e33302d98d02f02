//! The storage command: agent storage from a terminal.
fn main() {}
