//! Free ports on the loopback interface.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;

use crate::{Error, Result};

/// Below the range from which systems take the ports of outgoing connections (from 32,768 on Linux): within
/// it, a client that reconnects to a server that is down may be given the server's own port, and a server
/// that restarts may find its port taken. A node of Redis Cluster also needs the port 10,000 above its own.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;
const CLUSTER_BUS_OFFSET: u16 = 10_000;

/// Gives `start` a free port, and another when a program was faster to take it.
pub(super) fn with_free_port<T>(mut start: impl FnMut(u16) -> Result<T>) -> Result<T> {
    let mut outcome = start(free_port()?);
    for _ in 0..2 {
        match outcome {
            Err(error) if error.is_port_taken() => outcome = start(free_port()?),
            _ => break,
        }
    }
    outcome
}

/// A port that nobody listens on now. It is random, so that programs that start servers at the same time
/// rarely choose the same.
fn free_port() -> Result<u16> {
    (0..100)
        .map(|_| FIRST + u16::try_from(random() % u64::from(COUNT)).unwrap_or_default())
        .find(|port| is_free(*port) && is_free(*port + CLUSTER_BUS_OFFSET))
        .ok_or_else(|| Error::Failed {
            command: "searching a free port".into(),
            output: format!("none from {FIRST} to {}", FIRST + COUNT),
        })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The standard library's hash maps are seeded at random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Error {
        Error::Exited { server: "Redis", log: "bind: Address already in use".into() }
    }

    #[test]
    fn ports_stay_below_those_of_outgoing_connections() {
        for _ in 0..20 {
            assert!((10_000..20_000).contains(&free_port().unwrap()));
        }
    }

    #[test]
    fn a_port_that_was_taken_meanwhile_is_replaced() {
        let mut tries = 0;
        let outcome = with_free_port(|port| {
            tries += 1;
            if tries < 3 { Err(taken()) } else { Ok(port) }
        });
        assert!(outcome.is_ok());
    }

    #[test]
    fn after_three_tries_the_error_is_told() {
        let mut tries = 0;
        let outcome: Result<()> = with_free_port(|_| {
            tries += 1;
            Err(taken())
        });
        assert!(outcome.is_err());
        assert_eq!(tries, 3);
    }
}
