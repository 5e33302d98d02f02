//! Which of several servers is wanted.

use std::str::FromStr;

use storage_core::{Error, Result};

/// What a server must be to be connected to, as libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Any; the default where there is one host.
    Any,
    /// One whose sessions may write; the default where there are several hosts.
    ReadWrite,
    /// One whose sessions may not write.
    ReadOnly,
    /// One that is not in hot standby.
    Primary,
    /// One that is in hot standby.
    Standby,
    /// One that is in hot standby, or any where none of the hosts is.
    PreferStandby,
}

impl FromStr for TargetSessionAttrs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "any" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            _ => {
                return Err(Error::config("the target_session_attrs are not known")
                    .with_hint("one of any, read-write, read-only, primary, standby, prefer-standby"));
            }
        })
    }
}

impl TargetSessionAttrs {
    /// Whether a server is one of these.
    pub(crate) fn accepts(self, server: Role) -> bool {
        match self {
            Self::Any => true,
            Self::ReadWrite => !server.read_only,
            Self::ReadOnly => server.read_only,
            Self::Primary => !server.standby,
            Self::Standby | Self::PreferStandby => server.standby,
        }
    }

    /// What is wanted, in words.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::Any => "any server",
            Self::ReadWrite => "one that takes writes",
            Self::ReadOnly => "one that takes no writes",
            Self::Primary => "a primary",
            Self::Standby | Self::PreferStandby => "a standby",
        }
    }
}

/// What a server is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) standby: bool,
    /// Whether sessions may not write, which is so on each standby.
    pub(crate) read_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_by_table() {
        use TargetSessionAttrs::*;
        let role = |standby, read_only| Role { standby, read_only };
        let servers = [role(false, false), role(false, true), role(true, true)];
        for (text, wanted, accepted) in [
            ("any", Any, [true, true, true]),
            ("read-write", ReadWrite, [true, false, false]),
            ("read-only", ReadOnly, [false, true, true]),
            ("primary", Primary, [true, true, false]),
            ("standby", Standby, [false, false, true]),
            ("prefer-standby", PreferStandby, [false, false, true]),
        ] {
            assert_eq!(text.parse::<TargetSessionAttrs>().unwrap(), wanted);
            assert_eq!(servers.map(|server| wanted.accepts(server)), accepted, "{text}");
        }
        assert!("master".parse::<TargetSessionAttrs>().is_err());
    }
}
