//! Export and import: what agents keep, as lines that every store reads and writes.

mod canonical;
mod due;
mod export;
mod format;
mod import;
mod kinds;
mod look;
mod names;
mod order;
mod reader;
mod rebuild;
mod types;
mod writer;

use storage_core::Result;
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};

pub use self::types::{Existing, ExportScope, Exported, Imported};
use self::{export::Export, import::Import};
use crate::AgentStorage;

impl AgentStorage {
    /// Writes what a scope holds as lines of JSON, in the format that `EXPORT.md` describes.
    ///
    /// Equal contents give the same bytes on every store. Of each partition (a conversation, a task context, a thread) one state
    /// is written, and of each entry and each memory; what is written to the store meanwhile may or may not be there. What has
    /// expired is left out. Holds a page of items and 200,000 names in memory; for a user, the names of what belongs to
    /// the user.
    ///
    /// ```
    /// use std::{io::Cursor, sync::Arc};
    ///
    /// use storage_agent::{AgentStorage, Existing, ExportScope, Metadata, UserData};
    /// use storage_core::MemoryBackend;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let (here, there) = (AgentStorage::new(Arc::new(MemoryBackend::new()))?, AgentStorage::new(Arc::new(MemoryBackend::new()))?);
    /// # here.initialize().await?;
    /// # there.initialize().await?;
    /// here.sessions().create_session("s-1", "ada", Metadata::new()).await?;
    /// here.conversations().add_conversation_message("s-1", "user", "Which deals end today?", Metadata::new()).await?;
    ///
    /// let mut lines = Vec::new();
    /// let ada = ExportScope::User { id: "ada".into(), data: UserData::of("ada") };
    /// assert_eq!(here.export(&ada, &mut lines).await?.items, 1);
    ///
    /// let imported = there.import(Cursor::new(&lines), Existing::Refuse).await?;
    /// assert_eq!((imported.entries, imported.partitions), (1, 1));
    /// let mut again = Vec::new();
    /// there.export(&ada, &mut again).await?;
    /// assert!(lines == again);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for an empty id and a kind that is none; `Conflict` for a partition that is written to all the time;
    /// `Unavailable` with the writer's error as its source; else as the storage. What was written then has no end, and is refused
    /// by [`import`](Self::import).
    pub async fn export(
        &self,
        scope: &ExportScope,
        writer: impl AsyncWrite + Unpin + Send,
    ) -> Result<Exported> {
        let work = async {
            let exported = Export::run(self, scope, writer).await?;
            tracing::info!(?exported, "exported");
            Ok(exported)
        };
        self.shared.measured("export", Box::pin(work)).await
    }

    /// Writes what an export holds. It is read three times: a file that was changed or cut, or is of a later version, is
    /// refused before anything is written, and so is one of which something is there already and differs, unless `existing` says
    /// what becomes of that.
    ///
    /// Each entry, each memory, and each partition that fits one commit of 2,000 items and 16 MiB is written whole. A larger
    /// conversation grows while it is imported; a larger thread is seen when it is whole, unless it has more than 5,000 checkpoints. If
    /// the program dies meanwhile, the unfinished partition expires within five minutes, and the next import
    /// writes it anew, whatever `existing` says. Import a file again to finish: what is there and equal stays.
    ///
    /// Messages, task contexts and memories keep their times; all else counts as written now, as a copied thread does.
    /// Messages are known by their ids, and are found by what they say, as those that were written here.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong with the export, and the line; `Conflict` for something that is there already, or that
    /// is written to meanwhile; else as the storage.
    pub async fn import(
        &self,
        reader: impl AsyncRead + AsyncSeek + Unpin + Send,
        existing: Existing,
    ) -> Result<Imported> {
        let work = async {
            let imported = Import::run(self, reader, existing).await?;
            tracing::info!(?imported, "imported");
            Ok(imported)
        };
        self.shared.measured("import", Box::pin(work)).await
    }
}
