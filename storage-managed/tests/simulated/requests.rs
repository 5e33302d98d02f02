//! What a store asks of its home, as requests to the simulated cloud.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use storage_core::{Error, ErrorKind, Result};

use crate::{
    azure,
    client::{SimulatedHome, check_name, coarse_age, object},
    cloud::Effect,
    home::{Body, Claim, Fresh, Held, Holder, Home, LEASE, Listed, Object, Put, Version},
    service::{Condition, HEAD, Service, Stored},
};

#[async_trait]
impl Home for SimulatedHome {
    fn name(&self) -> String {
        format!("simulated {:?}", self.cloud.flavor)
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        let found = self.stored("get", name).await?.map(|(stored, _)| stored);
        Ok(found.filter(|stored| !azure::is_reserved(name, &stored.bytes)).map(object))
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        Ok(match self.stored("get_if_changed", name).await? {
            Some((stored, _)) if stored.version == *known => Fresh::Unchanged,
            Some((stored, _)) if !azure::is_reserved(name, &stored.bytes) => Fresh::Changed(object(stored)),
            _ => Fresh::Absent,
        })
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        let Some((stored, _)) = self.stored("read", name).await? else { return Ok(None) };
        let mut rng = self.cloud.decisions(&self.who, self.requests.fetch_add(1, SeqCst));
        let length = stored.bytes.len();
        let rest = stored.bytes.slice(usize::try_from(from).unwrap_or(usize::MAX).min(length)..);
        let size = (rest.len() / rng.usize(1..4)).max(1);
        let mut pieces: Vec<Result<Bytes>> =
            (0..rest.len()).step_by(size).map(|at| Ok(rest.slice(at..rest.len().min(at + size)))).collect();
        if rng.u32(0..1_000) < self.cloud.weather().broken {
            pieces.truncate(rng.usize(0..=pieces.len()));
            pieces.push(Err(Error::new(ErrorKind::Unavailable, "the download broke off").with_key(name)));
        }
        Ok(Some((length as u64, stream::iter(pieces).boxed())))
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        if !self.is_held(held) {
            return check_name(name).map(|()| Put::Refused);
        }
        if self.is_azure() && name == HEAD {
            return azure::create_head(self, bytes, held).await;
        }
        self.upload("create", name, bytes, Condition::Absent, None).await
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        if !self.is_held(held) {
            return check_name(name).map(|()| Put::Refused);
        }
        let lease = held.filter(|_| self.is_azure() && name == HEAD).map(|held| held.proof.clone());
        self.upload("replace", name, bytes, Condition::Is(expected.clone()), lease).await
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        let bytes = whole(body)?;
        let length = bytes.len() as u64;
        let put = self.upload("put", name, bytes, Condition::Absent, None).await?;
        sent(length);
        Ok(put != Put::Refused)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let owned = name.to_owned();
        let delete = move |service: &mut Service, _| drop(service.objects.remove(&owned));
        let deleted = self.request(format!("delete {name}"), Effect::Write, delete).await;
        deleted.map_err(|error| error.with_key(name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let owned = prefix.to_owned();
        let list = move |service: &mut Service, now: Duration| {
            let shown = |name: &str, stored: &Stored| {
                name.starts_with(&owned) && name != LEASE && !azure::is_reserved(name, &stored.bytes)
            };
            let objects = service.objects.iter().filter(|(name, stored)| shown(name, stored));
            let listed = objects.map(|(name, stored)| Listed {
                name: name.clone(),
                length: stored.bytes.len() as u64,
                age: Some(coarse_age(stored, now)),
            });
            listed.collect::<Vec<_>>()
        };
        let mut listed = self.request(format!("list {prefix}"), Effect::Read, list).await?;
        self.cloud.decisions(&self.who, self.requests.load(SeqCst)).shuffle(&mut listed);
        Ok(listed)
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        if self.is_azure() { azure::acquire(self, claim).await } else { self.take_lease(claim).await }
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        if self.is_azure() { azure::renew(self, held).await } else { self.renew_lease(held).await }
    }

    async fn release(&self, held: &Held) -> Result<()> {
        if self.is_azure() { azure::release(self, held).await } else { self.give_lease_back(held).await }
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        if self.is_azure() { azure::holder(self).await } else { self.lease_holder().await }
    }

    async fn unlock(&self) -> Result<()> {
        if self.is_azure() { azure::unlock(self).await } else { self.end_lease().await }
    }
}

fn whole(body: Body) -> Result<Bytes> {
    let (path, length) = match body {
        Body::Bytes(bytes) => return Ok(bytes),
        Body::File { path, length } => (path, length),
    };
    let bytes = std::fs::read(path).map_err(|_| Error::new(ErrorKind::Unavailable, "the file is gone"))?;
    match bytes.len() as u64 == length {
        true => Ok(bytes.into()),
        false => Err(Error::invalid_input("the file has another length")),
    }
}
