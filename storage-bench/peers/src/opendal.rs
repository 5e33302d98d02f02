//! OpenDAL's services. They keep bytes: on SQL in a table of their own, on Redis in the keys of the others.

use opendal::{Buffer, Operator, services};
use sqlx::{Connection, PgConnection, SqliteConnection};
use storage_bench_harness::{Contender, Data, Result};

const TABLE: &str = "opendal";
const NAMESPACE: &str = "ad_buyer:";
const CREATE_IN_SQLITE: &str =
    "CREATE TABLE IF NOT EXISTS opendal (key TEXT PRIMARY KEY, value BLOB NOT NULL)";
const COPY_IN_SQLITE: &str = "INSERT OR REPLACE INTO opendal SELECT key, CAST(value AS BLOB) FROM kv_store";
const CREATE_IN_POSTGRES: &str =
    "CREATE TABLE IF NOT EXISTS opendal (key TEXT PRIMARY KEY, value BYTEA NOT NULL)";
const COPY_IN_POSTGRES: &str = "INSERT INTO opendal SELECT key, convert_to(value::text, 'UTF8') FROM kv_store \
    ON CONFLICT DO NOTHING";

/// An operator on one of the three services.
pub(crate) struct OpenDal {
    operator: Operator,
    store: String,
    target: String,
    namespace: &'static str,
}

impl OpenDal {
    pub(crate) async fn open(store: &str, target: &str) -> Result<Self> {
        let (operator, namespace) = match store {
            "sqlite" => {
                let url = format!("sqlite://{target}");
                (Operator::new(services::Sqlite::default().connection_string(&url).table(TABLE))?, "")
            }
            "postgres" => {
                (Operator::new(services::Postgresql::default().connection_string(target).table(TABLE))?, "")
            }
            _ => (Operator::new(services::Redis::default().endpoint(target))?, NAMESPACE),
        };
        Ok(Self { operator, store: store.into(), target: target.into(), namespace })
    }
}

impl Contender for OpenDal {
    type Value = Buffer;

    fn value(text: &str) -> Result<Buffer> {
        Ok(Buffer::from(text.to_owned()))
    }

    /// Copies the entries of the others; those on Redis are its own already.
    async fn seed(&self, _data: &Data) -> Result<()> {
        match self.store.as_str() {
            "sqlite" => {
                let mut db = SqliteConnection::connect(&format!("sqlite://{}", self.target)).await?;
                sqlx::query(CREATE_IN_SQLITE).execute(&mut db).await?;
                sqlx::query(COPY_IN_SQLITE).execute(&mut db).await?;
            }
            "postgres" => {
                let mut db = PgConnection::connect(&self.target).await?;
                sqlx::query(CREATE_IN_POSTGRES).execute(&mut db).await?;
                sqlx::query(COPY_IN_POSTGRES).execute(&mut db).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        Ok(self.operator.read(&format!("{}{key}", self.namespace)).await?.len())
    }

    async fn set(&self, key: &str, value: Buffer) -> Result<()> {
        self.operator.write(&format!("{}{key}", self.namespace), value).await?;
        Ok(())
    }
}
