//! What the client of Azure does with the lease of the blob `head`: request by request, as in `src/home/azure`.

use std::time::Duration;

use bytes::Bytes;
use storage_core::{Error, ErrorKind, Result};

use crate::{
    client::SimulatedHome,
    cloud::Effect,
    home::{Claim, Held, Holder, LEASE, Put},
    service::{Condition, HEAD, Service},
};

/// The content of a head that holds the lease before the first publication, and counts as absent.
const RESERVED: &[u8] = b"reserved for the first publication";
const SHORTEST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) fn is_reserved(name: &str, bytes: &Bytes) -> bool {
    name == HEAD && bytes == RESERVED
}

/// Writes a head where there is none but a reserved one.
pub(crate) async fn create_head(home: &SimulatedHome, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
    let found = home.stored("get", HEAD).await.map_err(as_of_a_write)?;
    let condition = match found {
        Some((stored, _)) if is_reserved(HEAD, &stored.bytes) => Condition::Is(stored.version),
        // The lease was on the head: it went with it.
        None if held.is_none() => Condition::Absent,
        _ => return Ok(Put::Refused),
    };
    home.upload("create", HEAD, bytes, condition, held.map(|held| held.proof.clone())).await
}

/// A read within a write has the write's deadline, after which nobody knows.
fn as_of_a_write(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Timeout => Error::new(ErrorKind::OutcomeUnknown, "there was no answer in time"),
        _ => error,
    }
}

async fn lease_head(home: &SimulatedHome, proof: &str, term: Duration) -> Result<Option<bool>> {
    let proof = proof.to_owned();
    let lease = move |service: &mut Service, now| service.lease(now, &proof, term);
    home.request("lease the blob".to_owned(), Effect::Write, lease).await
}

/// Leases the head; where there is none, reserves its place first.
async fn take(home: &SimulatedHome, proof: &str, term: Duration) -> Result<bool> {
    if let Some(ours) = lease_head(home, proof, term).await? {
        return Ok(ours);
    }
    home.upload("reserve", HEAD, Bytes::from_static(RESERVED), Condition::Absent, None).await?;
    Ok(lease_head(home, proof, term).await? == Some(true))
}

/// Makes a lease ours that is known under an earlier id, and begins its term anew.
async fn take_back(home: &SimulatedHome, former: &str, proof: &str) -> Result<bool> {
    let (from, to, id) = (former.to_owned(), proof.to_owned(), proof.to_owned());
    let change = move |service: &mut Service, now| service.change_lease(now, &from, &to);
    if !home.request("change the lease".to_owned(), Effect::Write, change).await? {
        return Ok(false);
    }
    let renew = move |service: &mut Service, now| service.renew_lease(now, &id);
    home.request("renew the lease".to_owned(), Effect::Write, renew).await
}

pub(crate) async fn acquire(home: &SimulatedHome, claim: &Claim<'_>) -> Result<Option<Held>> {
    let (term, proof) = (claim.term.clamp(SHORTEST, LONGEST), claim.proof);
    let mut taken = take(home, proof, term).await;
    if taken.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown) {
        // Leasing again under the same id succeeds where it is ours already.
        taken = take(home, proof, term).await;
    }
    let mut taken = taken?;
    for former in claim.former {
        if taken {
            break;
        }
        taken = take_back(home, former, proof).await?;
    }
    if taken {
        note_owner(home, claim.owner);
    }
    Ok(taken.then(|| Held { proof: proof.to_owned(), term }))
}

/// For people alone: that it is done at once, and never fails, nobody relies on.
fn note_owner(home: &SimulatedHome, owner: &str) {
    let owner = Bytes::copy_from_slice(owner.as_bytes());
    home.cloud.with(|service, now| {
        service.objects.remove(LEASE);
        service.put(now, LEASE, owner, &Condition::Absent, None)
    });
}

pub(crate) async fn renew(home: &SimulatedHome, held: &Held) -> Result<Option<Held>> {
    let proof = held.proof.clone();
    let renew = move |service: &mut Service, now| service.renew_lease(now, &proof);
    let renewed = home.request("renew the lease".to_owned(), Effect::Write, renew).await?;
    Ok(renewed.then(|| held.clone()))
}

pub(crate) async fn release(home: &SimulatedHome, held: &Held) -> Result<()> {
    let proof = held.proof.clone();
    let release = move |service: &mut Service, _| service.release_lease(&proof);
    home.request("release the lease".to_owned(), Effect::Write, release).await
}

pub(crate) async fn holder(home: &SimulatedHome) -> Result<Option<Holder>> {
    let holder = |service: &mut Service, now| {
        let age = service.leased_since(now)?;
        let noted = service.objects.get(LEASE);
        let owner = noted.map(|noted| String::from_utf8_lossy(&noted.bytes).into_owned());
        Some(Holder { owner, age: Some(age) })
    };
    home.request("who holds the lease".to_owned(), Effect::Read, holder).await
}

pub(crate) async fn unlock(home: &SimulatedHome) -> Result<()> {
    let unlock = |service: &mut Service, _| service.break_lease();
    home.request("break the lease".to_owned(), Effect::Write, unlock).await
}
