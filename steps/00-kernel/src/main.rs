//! The `doctor`: which lessons can this machine run?
fn main() {}
