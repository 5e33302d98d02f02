//! Settings from a URL, and from libpq's variables.

use storage_core::Result;

use super::{parameters, settings::PostgresConfig, text};

impl PostgresConfig {
    /// The settings for a URL, `postgresql://user:password@host:5432/database?sslmode=require`, or for libpq's key=value
    /// form, `host=db.example user=agent password='s3 cret' dbname=ads`.
    ///
    /// `postgres://`, `postgresql+asyncpg://` and `postgresql+psycopg://` mean the same, in any case. User and password are
    /// percent-decoded; a host that begins with `%2F` is the folder of a Unix socket; several `host:port` are separated
    /// by commas; without a host it is `localhost`. The parameters are libpq's, and `schema`, `pgbouncer` (as
    /// [`pooler`](Self::pooler)) and `connection_limit` (as [`pool_max`](Self::pool_max)), which some providers hand out.
    /// A `connect_timeout` of 0 is the default, and roots in `sslrootcert` without an `sslmode` mean `verify-ca`, or
    /// `verify-full` for `system`.
    ///
    /// # Errors
    /// `Config` saying what is wrong, never with the password; for what is not supported with what to use instead.
    pub fn from_url(url: &str) -> Result<Self> {
        parameters::config(text::values(url)?)
    }

    /// As [`from_url`](Self::from_url), and what the URL does not say is taken from libpq's variables: `PGHOST`,
    /// `PGHOSTADDR`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGPASSFILE` (else `.pgpass` in `HOME`), `PGSSLMODE`,
    /// `PGSSLROOTCERT`, `PGSSLNEGOTIATION`, `PGCHANNELBINDING`, `PGAPPNAME`, `PGCONNECT_TIMEOUT`, `PGOPTIONS`,
    /// `PGTARGETSESSIONATTRS` and `PGLOADBALANCEHOSTS`. An empty variable counts as unset. No file is read before
    /// `connect`.
    ///
    /// ```
    /// use storage_postgres::PostgresConfig;
    ///
    /// let variables = |name: &str| (name == "PGUSER").then(|| "agent".to_owned());
    /// let config = PostgresConfig::from_url_and_variables("postgresql://db.example/ads", &variables)?;
    /// assert!(storage_postgres::PostgresBackend::new(config).is_ok());
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url); what is wrong with a variable names it.
    pub fn from_url_and_variables(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut values = text::values(url)?;
        parameters::with_variables(&mut values, variable)?;
        parameters::config(values)
    }
}
