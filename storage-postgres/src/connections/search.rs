//! Finding the server: of several hosts, and of the addresses of each, the first that is wanted.

use std::{net::IpAddr, pin::pin, time::Duration};

use futures::{
    StreamExt,
    future::{Either, pending, select},
    stream::FuturesUnordered,
};
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Deadline, unreachable},
};
use tokio_postgres::{Client, Connection, SimpleQueryMessage, Socket, config::Host, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{Place, PostgresConfig, Role, TargetSessionAttrs},
    error::{Failure, connect_error},
};

/// How long one server may be silent before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// A connection to a server that is what was wanted.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) connection: Connection<Socket, TlsStream>,
    /// What the server is, where it said so.
    pub(super) role: Option<Role>,
}

/// What is needed to look for a server. The names are resolved each time.
pub(super) struct Search<'a> {
    pub(super) config: &'a PostgresConfig,
    pub(super) tls: &'a MakeRustlsConnect,
    /// The content of the file of passwords.
    pub(super) passwords: Option<&'a str>,
}

impl Search<'_> {
    pub(super) async fn open(&self) -> Result<Opened> {
        match self.config.target() {
            TargetSessionAttrs::PreferStandby => match self.among(TargetSessionAttrs::Standby).await {
                Ok(opened) => Ok(opened),
                Err(_) => self.among(TargetSessionAttrs::Any).await,
            },
            wanted => self.among(wanted).await,
        }
    }

    async fn among(&self, wanted: TargetSessionAttrs) -> Result<Opened> {
        let mut places = self.config.places();
        self.shuffle(&mut places);
        first(places.iter().map(|place| async move {
            let opened = self.at(place, wanted).await;
            opened.map_err(|error| (format!("{}:{}", place.name(), place.port), error))
        }))
        .await
    }

    /// At the first address of a host that is wanted.
    async fn at(&self, place: &Place, wanted: TargetSessionAttrs) -> Result<Opened> {
        let mut addresses = addresses(place).await?;
        self.shuffle(&mut addresses);
        first(addresses.into_iter().map(|address| async move {
            let opened = self.connect(place, address, wanted).await;
            let name = address.map_or_else(|| place.name(), |address| address.to_string());
            opened.map_err(|error| (name, error))
        }))
        .await
    }

    async fn connect(
        &self,
        place: &Place,
        address: Option<IpAddr>,
        wanted: TargetSessionAttrs,
    ) -> Result<Opened> {
        let driver = self.config.driver(place, address, self.passwords);
        let opened = driver.connect(self.tls.clone()).await;
        let (client, mut connection) = opened.map_err(|error| connect_error(&error))?;
        check_encoding(connection.parameter("server_encoding"))?;
        let role = match said(&connection).filter(|_| !self.config.pooler) {
            // A pooler says what was so when it first met a server.
            None if wanted != TargetSessionAttrs::Any => Some(ask(&client, &mut connection).await?),
            role => role,
        };
        match role {
            Some(role) if !wanted.accepts(role) => {
                Err(Error::new(ErrorKind::Unavailable, format!("the server is not {}", wanted.wanted()))
                    .with_hint("target_session_attrs says which is wanted"))
            }
            role => Ok(Opened { client, connection, role }),
        }
    }

    fn shuffle<T>(&self, several: &mut [T]) {
        if self.config.load_balance_hosts {
            fastrand::shuffle(several);
        }
    }
}

/// Where a place is: one that is not found by an address has none.
async fn addresses(place: &Place) -> Result<Vec<Option<IpAddr>>> {
    let (Some(Host::Tcp(host)), None) = (&place.host, place.address) else { return Ok(vec![place.address]) };
    let found = tokio::net::lookup_host((host.as_str(), place.port)).await;
    let found = found.map_err(|error| unreachable(&error))?;
    let mut addresses: Vec<Option<IpAddr>> = found.map(|address| Some(address.ip())).collect();
    addresses.dedup();
    Ok(addresses)
}

/// JSON can hold any letter, and other encodings cannot.
fn check_encoding(encoding: Option<&str>) -> Result<()> {
    match encoding {
        None | Some("UTF8") => Ok(()),
        Some(other) => Err(Error::config(format!("the database's encoding is {other}, and UTF8 is needed"))
            .with_hint("create one with ENCODING 'UTF8' TEMPLATE template0, and name it in the URL")),
    }
}

/// What the server says by itself, from Postgres 14 on.
fn said(connection: &Connection<Socket, TlsStream>) -> Option<Role> {
    let is_on = |name| connection.parameter(name).map(|text| text == "on");
    let (standby, read_only) = (is_on("in_hot_standby")?, is_on("default_transaction_read_only")?);
    Some(Role { standby, read_only: standby || read_only })
}

async fn ask(client: &Client, connection: &mut Connection<Socket, TlsStream>) -> Result<Role> {
    let question = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')";
    let answer = match select(pin!(client.simple_query(question)), connection).await {
        Either::Left((answer, _)) => answer.map_err(|error| Failure::from(error).error)?,
        Either::Right(_) => {
            return Err(Error::new(ErrorKind::Unavailable, "the server closed the connection"));
        }
    };
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is = |at, text| row.and_then(|row| row.get(at)).is_some_and(|answer| answer == text);
    Ok(Role { standby: is(0, "t"), read_only: is(1, "on") })
}

/// The first that succeeds. Each is begun when the one before it has failed, or has said nothing for a while.
async fn first<T, F>(attempts: impl ExactSizeIterator<Item = F>) -> Result<T>
where
    F: Future<Output = Result<T, (String, Error)>>,
{
    let (mut waiting, mut running, mut errors) = (attempts, FuturesUnordered::new(), Vec::new());
    running.extend(waiting.next());
    loop {
        let more = waiting.len() > 0;
        let silence = async { if more { Deadline::never().pause(STAGGER).await } else { pending().await } };
        match select(running.next(), pin!(silence)).await {
            Either::Left((Some(Ok(opened)), _)) => return Ok(opened),
            Either::Left((Some(Err(error)), _)) => errors.push(error),
            Either::Left((None, _)) => return Err(none(errors)),
            Either::Right(_) => {}
        }
        running.extend(waiting.next());
    }
}

/// Why none can be used: of several errors the one that a person can do something about.
fn none(mut errors: Vec<(String, Error)>) -> Error {
    if errors.len() < 2 {
        let error = errors.pop().map(|(_, error)| error);
        return error.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the host has no address"));
    }
    let told: Vec<String> =
        errors.iter().map(|(name, error)| format!("{name}: {}", error.message())).collect();
    let by_a_person = errors.iter().find(|(_, error)| error.kind() != ErrorKind::Unavailable);
    let Some((_, error)) = by_a_person.or(errors.first()) else { return none(Vec::new()) };
    Error::new(error.kind(), format!("no server can be used: {}", told.join("; "))).with_hint_of(error)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn failing(kind: ErrorKind) -> Result<u8, (String, Error)> {
        Err((format!("{kind}.example"), Error::new(kind, "no")))
    }

    #[test]
    fn the_next_is_tried_after_a_failure_and_beside_a_silence() {
        let attempts = |answers: Vec<Option<Result<u8, (String, Error)>>>| {
            let attempts: Vec<_> = answers
                .into_iter()
                .map(|answer| async {
                    match answer {
                        Some(answer) => answer,
                        None => pending().await,
                    }
                })
                .collect();
            block_on(first(attempts.into_iter()))
        };
        assert_eq!(attempts(vec![Some(Ok(1)), Some(Ok(2))]).unwrap(), 1);
        let down = || Some(failing(ErrorKind::Unavailable));
        assert_eq!(attempts(vec![down(), None, Some(Ok(3))]).unwrap(), 3);
        let error = attempts(vec![down(), Some(failing(ErrorKind::Unauthorized)), down()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.message().contains("unavailable.example: no; unauthorized.example: no"), "{error}");
        assert_eq!(attempts(Vec::new()).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
