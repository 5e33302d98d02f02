//! Raw settings: names and texts, not looked into yet.

use std::{collections::BTreeMap, fmt};

use storage_core::{Error, Result};

use crate::environment;

/// One setting that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// What holds when it is unset.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Every setting of our own.
pub const SETTINGS: [Setting; 34] = [
    Setting {
        name: "STORAGE_TYPE",
        default: "redis if REDIS_URL is set, else by the scheme of DATABASE_URL",
        meaning: "sqlite, redis, postgres, hybrid, memory, or a registered type; any case",
    },
    Setting {
        name: "DATABASE_URL",
        default: "sqlite:///./ad_buyer.db",
        meaning: "the SQLite file or the Postgres server: sqlite:///relative, sqlite:////absolute, a path such as ./agent.db; postgresql://user:password@host/database or host=… user=… dbname=…; or the home of a managed SQLite database: sqlite+file:///folder/agent, sqlite+azblob://account/container/agent, sqlite+s3://bucket/agent, sqlite+gs://bucket/agent",
    },
    Setting {
        name: "REDIS_URL",
        default: "",
        meaning: "the Redis server: redis://, rediss:// (TLS), redis+unix:///path, redis-cluster://host:port,host:port, redis+sentinel://host:port,host:port/service",
    },
    Setting { name: "REDIS_NAMESPACE", default: "ad_buyer:", meaning: "what every Redis key starts with" },
    Setting { name: "REDIS_CONNECTIONS", default: "4", meaning: "multiplexed connections to Redis" },
    Setting {
        name: "REDIS_TLS_CA",
        default: "the system's roots",
        meaning: "PEM file of the authority that signed the certificate of the Redis server",
    },
    Setting {
        name: "REDIS_TLS_VERIFY",
        default: "full",
        meaning: "none takes any certificate of the Redis server, and anybody in between may read along; warned of at each start",
    },
    Setting { name: "POSTGRES_POOL_MIN", default: "2", meaning: "connections to Postgres kept open" },
    Setting {
        name: "POSTGRES_POOL_MAX",
        default: "10",
        meaning: "connections to Postgres at most; as many again, opened as needed, for callers on other runtimes or none, and for sweeps",
    },
    Setting {
        name: "POSTGRES_SCHEMA",
        default: "the role's search path",
        meaning: "schema of the table; made if missing",
    },
    Setting {
        name: "POSTGRES_POOLER",
        default: "false",
        meaning: "true behind a pooler in transaction mode, such as PgBouncer: no prepared statements",
    },
    Setting {
        name: "POSTGRES_TLS_CA",
        default: "the system's roots",
        meaning: "PEM file of the authority that signed the certificate of the Postgres server",
    },
    Setting {
        name: "POSTGRES_TLS_VERIFY",
        default: "as sslmode says",
        meaning: "full verifies certificate and host, as POSTGRES_TLS_CA alone does; none takes any certificate of the Postgres server, and anybody in between may read along; warned of at each start",
    },
    Setting {
        name: "POSTGRES_READ_URL",
        default: "",
        meaning: "a standby of the Postgres server that is read from, but for what is read to be changed; may be a little behind",
    },
    Setting {
        name: "POSTGRES_READ_STALENESS",
        default: "5s",
        meaning: "how far behind the standby may be; if it is further, the primary is read from",
    },
    Setting {
        name: "STORAGE_OPERATION_TIMEOUT",
        default: "5s",
        meaning: "how long one call may take, such as 500ms or 5s, waiting for a connection included; 40s for a managed database",
    },
    Setting { name: "STORAGE_MAX_VALUE_BYTES", default: "16777216", meaning: "the longest value" },
    Setting {
        name: "STORAGE_SWEEP_INTERVAL",
        default: "60s",
        meaning: "pause between two removals of expired rows (SQLite, Postgres, memory), or off",
    },
    Setting {
        name: "STORAGE_EPHEMERAL_PREFIXES",
        default: "",
        meaning: "more key prefixes that hybrid keeps in Redis, such as draft:,quote:",
    },
    Setting {
        name: "STORAGE_RETENTION",
        default: "all of it",
        meaning: "what stays of agents' memory where `storage retention` applies it, such as sessions: 7d; conversations: 1000 messages, 90d; threads: keep 50, 30d, keep tagged pinned",
    },
    Setting {
        name: "STORAGE_CACHE_DIR",
        default: "below the user's cache folder, named by the home",
        meaning: "the folder of a managed database's local copy, for one process alone",
    },
    Setting {
        name: "STORAGE_FRESHNESS",
        default: "5s",
        meaning: "how old what is read from a managed database may be; 0s asks the home each time",
    },
    Setting {
        name: "STORAGE_MANAGED_RETENTION",
        default: "10m",
        meaning: "how long earlier generations of a managed database stay in its home, such as 24h or 30d",
    },
    Setting {
        name: "STORAGE_MANAGED_ACK",
        default: "home",
        meaning: "what acknowledges a write to a managed database: home, where it is published, or local, where it is durably in the local copy and published each STORAGE_MANAGED_PUBLISH_EVERY: what came since is lost with that disk",
    },
    Setting {
        name: "STORAGE_MANAGED_PUBLISH_EVERY",
        default: "1s",
        meaning: "with STORAGE_MANAGED_ACK=local, how long an acknowledged write is in the local copy alone, at most, while the home can be reached",
    },
    Setting {
        name: "STORAGE_MANAGED_CHECK_EVERY",
        default: "never",
        meaning: "how often a process that writes to a managed database rebuilds it from its home alone, in the background, such as 24h: all of it travels",
    },
    Setting {
        name: "STORAGE_LEASE_TERM",
        default: "15s",
        meaning: "for how long a process takes the lease for writing to a managed database, which it renews: a killed one keeps others out for at most this; 1s to 60s, on Azure 15s at least",
    },
    Setting {
        name: "STORAGE_LEASE_WAIT",
        default: "the lease's term and 5s, half of STORAGE_OPERATION_TIMEOUT at most",
        meaning: "how long a write to a managed database waits while another process has the lease; less than STORAGE_OPERATION_TIMEOUT",
    },
    Setting {
        name: "STORAGE_LEASE_IDLE",
        default: "1s",
        meaning: "when the lease for writing to a managed database is given back while nobody writes; longer spares requests, and keeps others waiting",
    },
    Setting {
        name: "STORAGE_LEASE_SHARE",
        default: "2s",
        meaning: "how long the lease is kept at most from others while there is always something to write",
    },
    Setting {
        name: "STORAGE_CACHE_WAIT",
        default: "5s",
        meaning: "how long to wait for another process that has the folder of the local copy; 0s does not wait",
    },
    Setting {
        name: "STORAGE_MANAGED_FOLD_SHARE",
        default: "1",
        meaning: "a managed database is sent whole once what changed has so many times its size: less is a smaller home that is restored sooner, and more to send; 0.1 to 100",
    },
    Setting {
        name: "STORAGE_MANAGED_KEYS",
        default: "",
        meaning: "the keys of an encrypted managed database, as id:key,id:key, each of 32 bytes in hexadecimal or base64; the first encrypts, all decrypt; `storage managed genkey` makes one",
    },
    Setting {
        name: "STORAGE_MANAGED_KEY_FILE",
        default: "",
        meaning: "a file with such keys, one a line, which only its owner and group may read; in place of STORAGE_MANAGED_KEYS",
    },
];

/// The variables of the clouds' own that say where a managed database is and who asks; `storage_managed::home::from_url`
/// says what they mean. Read, and set with [`Settings::with`], like our own.
pub const CLOUD_VARIABLES: [&str; 28] = [
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_BLOB_ENDPOINT",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ALLOW_HTTP",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BASE_URL",
];

/// libpq's own variables, and where its file of passwords is looked for. What the URL says wins over them;
/// `storage_postgres::PostgresConfig` says what they mean. Read, and set with [`Settings::with`], like our own.
pub const POSTGRES_VARIABLES: [&str; 17] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGDATABASE",
    "PGPASSFILE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLNEGOTIATION",
    "PGCHANNELBINDING",
    "PGAPPNAME",
    "PGCONNECT_TIMEOUT",
    "PGOPTIONS",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "HOME",
];

/// Where a setting came from; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    DotEnv,
    Environment,
    Argument,
}

/// Settings by the names of their environment variables.
///
/// Explicit ones win over the process environment, that over a `.env` file, in whatever order they are added. An empty
/// text counts as unset. Nothing is looked into before a backend is built.
///
/// ```
/// use storage_factory::{Settings, get_storage_backend};
///
/// let settings = Settings::new().with("STORAGE_TYPE", "memory")?;
/// let storage = get_storage_backend(&settings)?;
/// assert_eq!(storage.name(), "memory");
/// assert!(Settings::new().with("STORAGE_TYP", "memory").is_err());
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (Origin, String)>,
}

impl Settings {
    /// No settings: every default holds, whatever the environment says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings of the process environment, and of nothing else.
    ///
    /// # Errors
    /// `Config` where a variable is not UTF-8.
    pub fn from_environment() -> Result<Self> {
        let mut settings = Self::new();
        for name in all() {
            // Where a home folder has another name, there is no file of passwords in it for us.
            let found = environment::variable(name)
                .or_else(|error| if name == "HOME" { Ok(None) } else { Err(error) });
            if let Some(text) = found? {
                settings.note(Origin::Environment, name, text);
            }
        }
        Ok(settings)
    }

    /// Adds those of the `.env` file in the working directory, which say what nothing else says. The file is read only
    /// here; [`get_storage`](crate::get_storage) and the `storage` command do it. The process environment stays as it is.
    ///
    /// ```no_run
    /// use storage_factory::Settings;
    ///
    /// let settings = Settings::from_environment()?.with_dot_env()?;
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    ///
    /// It is read as python-dotenv does it for the Python agents: `export`, quotes, comments, and `${NAME}` or
    /// `${NAME:-default}` for a variable of the process or of a line before; a `$` alone is a `$`. A line that is no
    /// `NAME=value` is passed over with a warning that has its number, as an event of `tracing`.
    ///
    /// # Errors
    /// `Config` where the file cannot be read; a missing one is no error.
    pub fn with_dot_env(mut self) -> Result<Self> {
        let file = environment::dot_env()?;
        for (name, text) in file.values {
            self.note(Origin::DotEnv, &name, text);
        }
        for line in file.wrong {
            tracing::warn!("line {line} of the file .env is no NAME=value, and is passed over");
        }
        Ok(self)
    }

    /// Sets one explicitly: it wins over the environment. An empty text unsets it.
    ///
    /// # Errors
    /// `Config` naming a setting that there is not, with the nearest that there is.
    pub fn with(mut self, name: &str, text: impl Into<String>) -> Result<Self> {
        if known(name).is_none() {
            let error = Error::config(format!("there is no setting `{}`", name.escape_debug()));
            return Err(error.with_hint(format!("the settings are {}", names())));
        }
        self.note(Origin::Argument, name, text.into());
        Ok(self)
    }

    /// The text of a setting, where it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, text)| text.trim()).filter(|text| !text.is_empty())
    }

    /// The same as it stands: a password may begin or end with white space.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(dead_code, reason = "only passwords of Postgres are variables")
    )]
    pub(crate) fn exact(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|(_, text)| text.clone()).filter(|text| !text.is_empty())
    }

    /// Keeps a text unless a stronger origin has spoken. Other programs' variables are passed over.
    fn note(&mut self, origin: Origin, name: &str, text: String) {
        let Some(name) = known(name) else { return };
        if self.values.get(name).is_none_or(|(earlier, _)| *earlier <= origin) {
            self.values.insert(name, (origin, text));
        }
    }
}

/// The names alone: URLs hold passwords.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn known(name: &str) -> Option<&'static str> {
    all().find(|known| *known == name)
}

fn all() -> impl Iterator<Item = &'static str> {
    SETTINGS.into_iter().map(|setting| setting.name).chain(CLOUD_VARIABLES).chain(POSTGRES_VARIABLES)
}

fn names() -> String {
    SETTINGS.map(|setting| setting.name).join(", ")
}
