//! What stands before the pages of merged segments, told together: who reads single pages asks for none of it.

use std::{collections::BTreeMap, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use super::{Hex, Id, Preamble, beginnings_name, header::LEVEL};
use crate::{
    content::Content,
    error::{Error, Result},
};

/// Of a segment with more before its pages the index does not tell it, which is written anew with each merge.
const MAX_SMALL: usize = 32 * 1024;
/// So much the index tells in all, of the newest segments.
const MAX_SMALL_IN_ALL: usize = 1024 * 1024;
/// More than that is worth a request of its own.
const MAX_LARGE: usize = 512 * 1024;
/// So much is told of large ones in all.
const MAX_LARGE_IN_ALL: usize = 2 * 1024 * 1024;
/// The end of a frame, by which it is known: zstd's checksum of its pages.
pub(crate) const CHECK: usize = 4;

/// What stands before the pages of a segment, and the end of each frame of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning(Vec<u8>);

impl Beginning {
    #[cfg(test)]
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// That of a segment, `None` where it is too long, or where the segment is no frames.
    pub(crate) fn of(name: &str, content: &Content) -> Result<Option<Self>> {
        let reading = |error| Error::io("read", name)(error);
        let end = content.length().map_err(reading)?;
        let Some(preamble) = Preamble::of(name, content, end)?.filter(Preamble::is_checked) else {
            return Ok(None);
        };
        let checks = preamble.frames.len() * CHECK;
        if preamble.length > (MAX_LARGE - checks.min(MAX_LARGE)) as u64 {
            return Ok(None);
        }
        let mut bytes = content.bytes(0..preamble.length).map_err(reading)?;
        for frame in &preamble.frames {
            let end = preamble.length + frame;
            bytes.extend(content.bytes(end.saturating_sub(CHECK as u64)..end).map_err(reading)?);
        }
        Ok(Some(Self(bytes)))
    }

    /// Whether it is too long for the index.
    pub(crate) fn is_large(&self) -> bool {
        self.0.len() > MAX_SMALL
    }

    /// What stands before the pages as it stands there, and the ends of the frames.
    #[cfg(any(feature = "lazy", test))]
    pub(crate) fn parse(&self, name: &str) -> Result<(Preamble, Vec<[u8; CHECK]>)> {
        let preamble = Preamble::parse(name, &self.0)?.filter(Preamble::is_checked);
        let unsound = || Error::corrupt("index", format!("it does not tell how `{name}` begins"));
        let preamble = preamble.ok_or_else(unsound)?;
        let rest = usize::try_from(preamble.length).ok().and_then(|length| self.0.get(length..));
        let (checks, left) = rest.unwrap_or_default().as_chunks::<CHECK>();
        if !left.is_empty() || checks.len() != preamble.frames.len() {
            return Err(unsound());
        }
        Ok((preamble, checks.to_vec()))
    }
}

/// Names the object that tells how large segments begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LargeRef {
    /// The last generation that they lead to.
    pub(crate) generation: u64,
    pub(crate) id: Id,
}

impl LargeRef {
    pub(crate) fn name(&self) -> String {
        beginnings_name(self.generation, self.id)
    }
}

/// How large segments begin, by the last generation of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Large(pub(crate) BTreeMap<u64, Beginning>);

impl Large {
    /// As it is written, and how it is named; `None` where it tells nothing. The newest are told, if there is too much.
    pub(crate) fn encode(mut self) -> Option<(LargeRef, Vec<u8>)> {
        while self.0.values().map(|beginning| beginning.0.len()).sum::<usize>() > MAX_LARGE_IN_ALL {
            self.0.pop_first();
        }
        let generation = *self.0.last_key_value()?.0;
        let mut bytes = Vec::new();
        for (last, beginning) in &self.0 {
            bytes.extend(last.to_le_bytes());
            extend(&mut bytes, beginning);
        }
        let packed = packed(&bytes);
        Some((LargeRef { generation, id: Hex::of(&packed) }, packed))
    }

    /// Reads and checks what an index names.
    pub(crate) fn decode(bytes: &[u8], named: &LargeRef) -> Result<Self> {
        if Hex::of(bytes) != named.id {
            return Err(Error::corrupt(&named.name(), "its hash is wrong"));
        }
        Self::parse(bytes).ok_or_else(|| Error::corrupt(&named.name(), "it cannot be read"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        // Each with its generation and its length, and none is short.
        let bytes = unpacked(bytes, MAX_LARGE_IN_ALL * 2)?;
        let (mut rest, mut found) = (&bytes[..], BTreeMap::new());
        while !rest.is_empty() {
            let (last, behind) = rest.split_first_chunk()?;
            rest = behind;
            found.insert(u64::from_le_bytes(*last), take(&mut rest)?);
        }
        Some(Self(found))
    }
}

/// Puts together what is told of each segment, of the newest if there is too much. Nothing is told of large ones.
pub(super) fn pack(beginnings: &[Option<Beginning>]) -> String {
    let none = Beginning(Vec::new());
    let small = |beginning: &Option<Beginning>| beginning.clone().filter(|beginning| !beginning.is_large());
    let mut room = MAX_SMALL_IN_ALL;
    let fits = |beginning: &Option<Beginning>| {
        let length = beginning.as_ref().map_or(0, |beginning| beginning.0.len());
        room.checked_sub(length).inspect(|left| room = *left).is_some()
    };
    let told: Vec<_> = beginnings.iter().rev().map(small).take_while(fits).collect();
    let mut bytes = vec![0; (beginnings.len() - told.len()) * size_of::<u32>()];
    for beginning in told.iter().rev() {
        extend(&mut bytes, beginning.as_ref().unwrap_or(&none));
    }
    BASE64.encode(packed(&bytes))
}

/// Takes apart what was put together for so many segments; `None` where it is something else.
pub(super) fn unpack(text: &str, count: usize) -> Option<Vec<Option<Beginning>>> {
    let bytes = unpacked(&BASE64.decode(text).ok()?, MAX_SMALL_IN_ALL + count * size_of::<u32>())?;
    let mut rest = &bytes[..];
    let beginnings: Option<Vec<_>> = (0..count).map(|_| take(&mut rest)).collect();
    let told = |beginning: Beginning| (!beginning.0.is_empty()).then_some(beginning);
    let beginnings = beginnings?.into_iter().map(told).collect();
    rest.is_empty().then_some(beginnings)
}

fn extend(bytes: &mut Vec<u8>, beginning: &Beginning) {
    bytes.extend(u32::try_from(beginning.0.len()).unwrap_or_default().to_le_bytes());
    bytes.extend(&beginning.0);
}

fn take(rest: &mut &[u8]) -> Option<Beginning> {
    let (length, behind) = rest.split_first_chunk()?;
    let (beginning, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(Beginning(beginning.to_vec()))
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    // In memory, which does not fail.
    zstd::encode_all(bytes, LEVEL).unwrap_or_default()
}

/// What was packed, if it is not more than that.
fn unpacked(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let decoder = zstd::Decoder::with_buffer(packed).ok()?;
    decoder.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= most).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_are_told_as_far_as_they_fit_and_damage_is_noticed() {
        let beginning = |fill: u8, bytes: usize| Beginning(vec![fill; bytes]);
        assert_eq!(Large::default().encode(), None);
        let large = Large(BTreeMap::from([(7, beginning(1, 40_000)), (9, beginning(2, 50_000))]));
        let (named, bytes) = Large(large.0.clone()).encode().unwrap();
        assert_eq!(named.generation, 9);
        assert_eq!(Large::decode(&bytes, &named).unwrap(), large);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            for bytes in [&damaged[..], &bytes[..at]] {
                let error = Large::decode(bytes, &named).unwrap_err();
                assert!(matches!(error, Error::Corrupt { object, .. } if object == named.name()));
            }
        }
        let many = Large((1..=10).map(|last| (last, beginning(3, 500_000))).collect());
        let (named, bytes) = many.encode().unwrap();
        let told = Large::decode(&bytes, &named).unwrap().0;
        assert_eq!(told.into_keys().collect::<Vec<_>>(), [7, 8, 9, 10]);
    }
}
