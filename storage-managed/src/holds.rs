//! Generations that are kept until somebody removes them, whatever the retention: each a copy of its own, so that neither
//! what is removed nor what is damaged elsewhere concerns it.

use std::{path::Path, time::SystemTime};

use crate::{
    error::{Error, Result},
    format::{HOLD, HeldCopy},
    home::Body,
    local::sums_of,
    open::blocking,
    shared::Shared,
    verify::{Verified, check_integrity},
};

/// How long the name of a hold may be, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A generation that is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The generation.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: String,
    /// When it was made: now by this machine's clock, less its age by the home's; `None` where the home cannot tell.
    pub made: Option<SystemTime>,
    /// The length in bytes of what is kept.
    pub bytes: u64,
}

impl Shared {
    /// The holds, with what their objects are called; the earliest generation first.
    async fn find_holds(&self) -> Result<Vec<(Hold, HeldCopy)>> {
        let now = self.options.clock.now();
        let listed = self.remote.list(HOLD).await?;
        let mut found: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let copy = HeldCopy::parse(&object.name)?;
                let hold = Hold {
                    name: copy.label.clone(),
                    generation: copy.generation,
                    commit: copy.commit.to_string(),
                    made: object.age.and_then(|age| now.checked_sub(age)),
                    bytes: object.length,
                };
                Some((hold, copy))
            })
            .collect();
        found.sort_by(|(_, one), (_, other)| {
            (one.generation, &one.label).cmp(&(other.generation, &other.label))
        });
        Ok(found)
    }

    pub(crate) async fn holds(&self) -> Result<Vec<Hold>> {
        Ok(self.find_holds().await?.into_iter().map(|(hold, _)| hold).collect())
    }

    /// The hold of a name. Two may have one, where both were made at once: then it takes the generation, too.
    async fn find_hold(&self, name: &str, generation: Option<u64>) -> Result<(Hold, HeldCopy)> {
        let mut found = self.find_holds().await?;
        found.retain(|(hold, _)| hold.name == name && generation.is_none_or(|of| of == hold.generation));
        if found.len() > 1 {
            let generations: Vec<String> =
                found.iter().map(|(hold, _)| hold.generation.to_string()).collect();
            return Err(Error::Unsupported(format!(
                "`{name}` keeps several generations: say which of {}",
                generations.join(", ")
            )));
        }
        found.pop().ok_or_else(|| Error::Unsupported(format!("the home has no such hold as `{name}`")))
    }

    /// Keeps a generation, the newest or this one, under a name.
    pub(crate) async fn hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        check_name(name)?;
        if let Some(found) = self.holds().await?.into_iter().find(|hold| hold.name == name) {
            return Err(Error::Unsupported(format!(
                "`{name}` keeps generation {} already: remove it first, or choose another name",
                found.generation
            )));
        }
        let staged = self.paths.staged("hold")?;
        let rebuilt = self.rebuild(generation, &staged).await?;
        let copy = HeldCopy {
            generation: rebuilt.verified.generation,
            commit: rebuilt.commit,
            checksum: rebuilt.checksum,
            label: name.to_owned(),
        };
        let body = Body::File { path: staged.to_path_buf(), length: rebuilt.verified.bytes };
        self.remote.put_new(&copy.name(), &body).await?;
        Ok(self.find_hold(name, Some(copy.generation)).await?.0)
    }

    /// Removes what is kept under a name.
    pub(crate) async fn remove_hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        let (hold, copy) = self.find_hold(name, generation).await?;
        let object = copy.name();
        self.remote.run(|| self.remote.home.delete(&object)).await?;
        Ok(hold)
    }

    /// Writes what is kept under a name to a new file, and checks it.
    pub(crate) async fn rebuild_hold(
        &self,
        name: &str,
        generation: Option<u64>,
        to: &Path,
    ) -> Result<Verified> {
        let (_, copy) = self.find_hold(name, generation).await?;
        let object = copy.name();
        let Some(file) = self.remote.downloads.download(&object, to).await? else {
            return Err(Error::Unsupported(format!("the hold `{name}` was removed meanwhile")));
        };
        let page_size = self.remote.page_size(&object).await?;
        let path = to.to_owned();
        let read =
            move || sums_of(&file, page_size).map(|sums| (file, sums)).map_err(Error::io("read", path));
        let (file, sums) = blocking(read).await?;
        let bytes = u64::from(sums.page_count()) * u64::from(page_size);
        let length = file.metadata().map_err(Error::io("read", to))?.len();
        if sums.total() != copy.checksum || length != bytes {
            return Err(Error::corrupt(&object, "its pages are not what was kept"));
        }
        check_integrity(file, to.to_owned(), object).await?;
        Ok(Verified { generation: copy.generation, bytes, objects: 1 })
    }
}

/// A name becomes a part of an object's.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "`{}` cannot be the name of a hold: 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` and `-`",
        name.escape_debug()
    )))
}
