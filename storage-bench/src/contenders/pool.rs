//! The pools of the contenders that have one.

/// Connections of each pool: more than the server has cores, and enough that none of them idles.
pub(super) const POOL: u32 = 16;
