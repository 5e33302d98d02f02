//! A home whose head, base or segments are damaged or gone: what is sound is published again, above all that was there.

mod cached;
mod lineage;
mod publish;

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc, time::SystemTime};

use tempfile::TempPath;

pub use self::lineage::Damage;
use self::lineage::{Built, End, Lineage};
use crate::{
    cache::{Paths, State},
    error::{Error, Result},
    format::{HEAD, Head, Id, Sums},
    holds::Hold,
    home::{Home, Object, Version},
    open::blocking,
    options::Options,
    rebuild::Chain,
    remote::Remote,
    spawned::while_awaited,
    verify::check_integrity,
};

/// Where a sound generation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// It was rebuilt from the objects of the home.
    Home,
    /// It is in the cache, whose record proves that it was published.
    Cache,
}

/// The newest generation that is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sound {
    /// Its number.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: String,
    /// Where it was found.
    pub source: Source,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether a checksum proves that it is what was published; else SQLite's integrity check alone speaks for it.
    pub is_proven: bool,
}

/// A generation that is not in the one that is sound, and those before it whose objects are gone, or merged into its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Its number.
    pub generation: u64,
    /// The first of those before it of which no object tells by itself, which are lost with it; itself where there are none.
    pub first: u64,
    /// When it was published, where the home has an object of it that tells. The newest of all may never have been.
    pub published: Option<SystemTime>,
}

/// What [`repair`] has found, and can publish.
#[derive(Debug)]
pub struct Repair {
    /// What is damaged; empty where there is nothing to repair.
    pub damage: Vec<Damage>,
    /// What can be published.
    pub sound: Option<Sound>,
    /// What is lost with it.
    pub lost: Vec<Lost>,
    /// What is kept under names, the earliest generation first, whatever is damaged: [`restore_hold`](crate::restore_hold) writes it to a
    /// file.
    pub holds: Vec<Hold>,
    remote: Remote,
    options: Options,
    paths: Paths,
    lock: File,
    head: Stored,
    chosen: Option<Chosen>,
}

/// A generation in a file, ready to be published.
#[derive(Debug)]
struct Chosen {
    staged: TempPath,
    sums: Sums,
    page_size: u32,
    /// That of the next generation.
    generation: u64,
    incarnation: Option<Id>,
    end: End,
    commits: Vec<(Id, u64)>,
}

/// The head as it is.
#[derive(Debug)]
enum Stored {
    Absent,
    Sound(Box<Head>, Version),
    /// As it is stored.
    Damaged(Object),
}

impl Stored {
    async fn read(remote: &Remote, damage: &mut Vec<Damage>) -> Result<Self> {
        match remote.head().await {
            Ok(Some((head, version))) => Ok(Self::Sound(Box::new(head), version)),
            Ok(None) => {
                damage.push(Damage { object: HEAD.to_owned(), problem: "it is gone".to_owned() });
                Ok(Self::Absent)
            }
            Err(Error::Corrupt { object, problem }) => {
                damage.push(Damage { object, problem });
                let stored = remote.run(|| remote.home.get_stored(HEAD)).await?;
                Ok(stored.map_or(Self::Absent, Self::Damaged))
            }
            Err(error) => Err(error),
        }
    }

    fn sound(&self) -> Option<&Head> {
        match self {
            Self::Sound(head, _) => Some(head),
            _ => None,
        }
    }
}

/// Looks for what is sound of a damaged home: the newest generation that can be rebuilt from its objects, whether its head names
/// them or not, or the one in [`Options::cache`], where the cache's record proves it. Changes nothing;
/// [`Repair::publish`] does. Reads what every segment says of itself, and the newest generation whole. The cache is locked
/// until the answer is dropped.
///
/// # Errors
/// [`Error::Unsupported`] for a home of a later release, and one to which nothing was ever published;
/// [`Error::CacheInUse`]; [`Error::Settings`] and [`Error::Home`] where the home cannot be read now, as without the right
/// key; [`Error::Io`].
pub async fn repair(home: Arc<dyn Home>, options: Options) -> Result<Repair> {
    options.check()?;
    while_awaited(find(home, options)).await
}

async fn find(home: Arc<dyn Home>, options: Options) -> Result<Repair> {
    let (paths, wait) = (Paths::new(&options.cache), options.cache_wait);
    let remote = Remote::new(home, options.retry, &paths);
    let folder = paths.clone();
    let (lock, cached) = blocking(move || {
        let lock = folder.lock(wait)?;
        folder.sweep();
        Ok((lock, cached::find(&folder)?))
    })
    .await?;
    let mut damage = Vec::new();
    let head = Stored::read(&remote, &mut damage).await?;
    let staged = paths.staged("repaired")?;
    if let Some(head) = head.sound() {
        damage.extend(check(&remote, head, &staged).await?);
    }
    let holds = remote.holds(&*options.clock).await?;
    let (sound, lost, chosen) = (None, Vec::new(), None);
    let mut found = Repair { damage, sound, lost, holds, remote, options, paths, lock, head, chosen };
    if !found.damage.is_empty() {
        found.choose(staged, cached).await?;
    }
    Ok(found)
}

/// What is wrong with what a head names.
async fn check(remote: &Remote, head: &Head, to: &Path) -> Result<Option<Damage>> {
    let gone = |object| Some(Damage { object, problem: "the head names it and it is gone".to_owned() });
    let work = async {
        let (chain, file, _) = match Chain::build_newest(remote, head, to).await? {
            Ok(built) => built,
            Err(missing) => return Ok(gone(missing)),
        };
        check_integrity(file, to.to_owned(), chain.base_name()).await?;
        Ok(None)
    };
    match work.await {
        Err(Error::Corrupt { object, problem }) => Ok(Some(Damage { object, problem })),
        done => done,
    }
}

impl Repair {
    /// Finds the newest generation that is sound.
    async fn choose(&mut self, staged: TempPath, cached: Option<(State, Sums)>) -> Result<()> {
        let head = self.head.sound().cloned();
        let objects = self.remote.list("").await?;
        let is_empty = objects.is_empty();
        let mut lineage = Lineage::read(&self.remote, objects, head.as_ref()).await?;
        let cached = cached.filter(|(state, _)| is_of_home(state, &lineage, head.as_ref()));
        let was_published = !lineage.is_empty() || cached.is_some() || !self.holds.is_empty();
        if !was_published && matches!(self.head, Stored::Absent) {
            let home = self.remote.home.name();
            return Err(Error::Unsupported(format!("nothing was ever published to the home `{home}`")));
        }
        if is_empty && let Some(head) = self.damage.iter_mut().find(|damage| damage.object == HEAD) {
            head.problem
                .push_str(", as is all else of the home: see first whether its disk or share is mounted");
        }
        if lineage.incarnation.is_none() {
            lineage.incarnation = cached.as_ref().and_then(|(state, _)| state.incarnation);
        }
        let floor = cached.as_ref().map_or(0, |(state, _)| state.published.generation);
        let built = lineage.build_newest(&self.remote, head.as_ref(), floor, &staged).await?;
        let (built, source) = match (built, cached) {
            (Some(built), _) => (Some(built), Source::Home),
            (None, Some((state, sums))) => {
                let (paths, to, copied) = (self.paths.clone(), staged.to_path_buf(), sums.clone());
                blocking(move || cached::copy(&paths, &state.published, &copied, &to)).await?;
                let published = state.published;
                let end = (published.generation, published.commit.unwrap_or_default());
                (Some(Built { end, sums, page_size: published.page_size, is_proven: true }), Source::Cache)
            }
            (None, None) => (None, Source::Home),
        };
        let newest = lineage.newest.max(floor);
        self.report(&lineage, built.as_ref(), source);
        self.chosen = built.map(|built| Chosen {
            staged,
            sums: built.sums,
            page_size: built.page_size,
            generation: newest + 1,
            incarnation: lineage.incarnation,
            end: built.end,
            commits: lineage.commits(built.end),
        });
        Ok(())
    }

    fn report(&mut self, lineage: &Lineage, built: Option<&Built>, source: Source) {
        for (object, problem) in &lineage.damage {
            if !self.damage.iter().any(|known| known.object == *object) {
                self.damage.push(Damage { object: object.clone(), problem: problem.clone() });
            }
        }
        let from = built.map_or(0, |built| built.end.0);
        let now = self.options.clock.now();
        let mut ends: BTreeMap<u64, Option<SystemTime>> = lineage
            .behind(from)
            .map(|(generation, object)| (generation, object.age.and_then(|age| now.checked_sub(age))))
            .collect();
        if let Some(named) = self.head.sound().map(|head| head.generation).filter(|named| *named > from) {
            ends.entry(named).or_default();
        }
        let mut before = from;
        for (generation, published) in ends {
            self.lost.push(Lost { generation, first: before + 1, published });
            before = generation;
        }
        self.sound = built.map(|built| Sound {
            generation: built.end.0,
            commit: built.end.1.to_string(),
            source,
            bytes: u64::from(built.sums.page_count()) * u64::from(built.page_size),
            is_proven: built.is_proven,
        });
    }
}

/// Whether what a cache holds was published to this home, as far as that tells.
fn is_of_home(state: &State, lineage: &Lineage, head: Option<&Head>) -> bool {
    let published = &state.published;
    let end = (published.generation, published.commit.unwrap_or_default());
    if let Some(head) = head {
        let known = head.commit_at(end.0).map(|(commit, _)| commit);
        return state.incarnation == Some(head.incarnation) && known.is_none_or(|commit| commit == end.1);
    }
    match lineage.incarnation {
        Some(incarnation) => state.incarnation == Some(incarnation),
        None => lineage.is_empty() || lineage.has(end),
    }
}
