//! The inmate's tools: calls that only somebody who wants to get out makes. No launcher uses them.
