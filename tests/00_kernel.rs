//! Step 0, the ground: how the kernel answers, and what the doctor finds.
