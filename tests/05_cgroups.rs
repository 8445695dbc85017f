//! Step 5, rations: what a cell may take of the machine.
