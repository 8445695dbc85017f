//! Tests of any OCI runtime from outside. So far: the engines that drive it (tests/07_engines.rs).
