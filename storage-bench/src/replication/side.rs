//! Who is measured.

use std::time::Duration;

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Without a replica: what the others cost the writer.
    Alone,
    /// Litestream as it is unless told otherwise.
    Litestream,
    /// Litestream that looks a hundred times as often.
    LitestreamFast,
    /// Ours, acknowledging as Litestream does: once it is on this disk.
    Local,
    /// Ours as it is unless told otherwise: acknowledged once it is in the home.
    Home,
}

impl Side {
    pub(super) const ALL: [Self; 5] =
        [Self::Alone, Self::Litestream, Self::LitestreamFast, Self::Local, Self::Home];
    pub(super) const REPLICATED: [Self; 4] =
        [Self::Litestream, Self::LitestreamFast, Self::Local, Self::Home];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "SQLite alone",
            Self::Litestream => "Litestream, 1 s",
            Self::LitestreamFast => "Litestream, 10 ms",
            Self::Local => "ours, local, 1 s",
            Self::Home => "ours",
        }
    }

    /// How often what is acknowledged is sent, where that is not at once.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Self::Litestream | Self::Local => Some(Duration::from_secs(1)),
            Self::LitestreamFast => Some(Duration::from_millis(10)),
            Self::Alone | Self::Home => None,
        }
    }
}
