//! Commands, scripts, and what the server answers to them. Nothing here sends anything.

pub(crate) mod answer;
pub(crate) mod command;
pub(crate) mod reply;
pub(crate) mod script;
