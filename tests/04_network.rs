//! Step 4, tests.
