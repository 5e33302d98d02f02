//! How a Postgres backend is set up, and what its URL may say.

mod parameters;
pub(crate) mod pass_file;
mod server;
mod settings;
mod ssl;
mod target;
#[cfg(test)]
mod tests;
mod text;
mod url;

pub(crate) use self::{server::Place, settings::quote_identifier, target::Role};
pub use self::{
    settings::PostgresConfig,
    ssl::{SslMode, SslRoots, TlsVerify},
    target::TargetSessionAttrs,
};
