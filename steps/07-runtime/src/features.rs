//! What this runtime can do, told to callers.
