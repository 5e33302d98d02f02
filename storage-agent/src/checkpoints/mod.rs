//! Checkpoints of workflows: the whole state of a thread at each step, stored small.
