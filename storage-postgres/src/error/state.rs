//! What a failure leaves open.

/// What is known about the statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The server refused it, or it never left: nothing was applied, and the same would happen again.
    Refused,
    /// The server refused what is in it: nothing was applied, and without the item at fault it would succeed.
    Unfit,
    /// The server rolled it back for another's sake: nothing was applied, and it may well succeed now.
    RolledBack,
    /// The server closed the connection instead of running it: nothing was applied.
    Closed,
    /// The server takes no writes, or no longer: nothing was applied, and where the name leads to now may be another.
    ReadOnly,
    /// The connection broke while it was under way.
    Lost,
    /// The deadline passed while it was under way.
    Late,
}
