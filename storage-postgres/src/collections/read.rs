//! Reads: each is one statement, which sees a partition between two commits.

use std::collections::HashMap;

use bytes::Bytes;
use storage_core::{
    Cursor, Error, Item, Json, MAX_PAGE_BYTES, Order, Page, Partition, PartitionInfo, Query as Asked, Result,
    ScanPage,
};
use tokio_postgres::Row;

use crate::{
    connections::executor::Executor,
    statements::{
        partitions::{END, Sql},
        query::Query,
        value::{Param, column, unsigned},
    },
};

/// How many partitions a listing reads at once.
const LISTED: i64 = 1_000;

pub(super) async fn page(mut executor: Executor, asked: Asked) -> Result<Page> {
    let sql = Sql::Page { descending: asked.order == Order::Descending, bodies: asked.bodies };
    let to = asked.to.as_deref().unwrap_or(END.as_str());
    // One more, which is not returned, tells whether there are more.
    let limit = i64::try_from(asked.limit).unwrap_or(i64::MAX).saturating_add(1);
    let params: [Param<'_>; 4] = [&asked.partition.as_str(), &asked.from, &to, &limit];
    let rows = executor.query(Query::Collections(sql), &params).await?;
    let mut page = Page::default();
    let mut bytes = 0;
    for row in &rows {
        let (text, body_bytes) = (column::<&str>(row, 1)?, unsigned(column(row, 3)?));
        bytes += text.len() as u64 + if asked.bodies { body_bytes } else { 0 };
        let full = page.items.len() == asked.limit || bytes > MAX_PAGE_BYTES as u64;
        if full && !page.items.is_empty() {
            page.more = true;
            break;
        }
        page.items.push(item(row)?);
    }
    Ok(page)
}

pub(super) async fn items(
    mut executor: Executor,
    partition: Partition,
    sorts: Vec<String>,
) -> Result<Vec<Option<Item>>> {
    let params: [Param<'_>; 2] = [&partition.as_str(), &sorts];
    let rows = executor.query(Query::Collections(Sql::Items), &params).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let item = item(row)?;
        found.insert(item.sort.clone(), item);
    }
    Ok(sorts.iter().map(|sort| found.get(sort).cloned()).collect())
}

pub(super) async fn partition(mut executor: Executor, partition: Partition) -> Result<Option<PartitionInfo>> {
    let query = Query::Collections(Sql::Info);
    let rows = executor.query(query, &[&partition.as_str()]).await?;
    rows.first().map(info).transpose()
}

/// The partitions from a text to before another.
pub(super) async fn listed(
    mut executor: Executor,
    from: String,
    to: String,
    limit: usize,
) -> Result<ScanPage<PartitionInfo>> {
    let query = Query::Collections(Sql::List);
    let most = i64::try_from(limit).unwrap_or(LISTED).min(LISTED);
    let rows = executor.query(query, &[&from, &to, &most]).await?;
    let listed = rows.iter().map(info).collect::<Result<Vec<_>>>()?;
    let last = listed.last().filter(|_| unsigned(most) == listed.len() as u64);
    // The least text after it: no text of Postgres has a NUL.
    let next = last.map(|last| Cursor::at(&format!("{}\u{1}", last.partition.as_str()))).transpose()?;
    Ok(ScanPage::new(listed.into_iter().map(Ok).collect(), next))
}

/// Returns whether there was one.
pub(super) async fn delete_partition(mut executor: Executor, partition: Partition) -> Result<bool> {
    let query = Query::Collections(Sql::Delete);
    let rows = executor.query(query, &[&partition.as_str()]).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0))
}

pub(super) fn item(row: &Row) -> Result<Item> {
    let sort: String = column(row, 0)?;
    let attributes = Json::from_stored(&sort, column::<String>(row, 1)?)?;
    let body = column::<Option<&[u8]>>(row, 2)?.unwrap_or_default();
    Ok(Item {
        attributes,
        body: Bytes::copy_from_slice(body),
        body_bytes: unsigned(column::<Option<i64>>(row, 3)?.unwrap_or_default()),
        version: unsigned(column(row, 4)?),
        written_at: column(row, 5)?,
        sort,
    })
}

fn info(row: &Row) -> Result<PartitionInfo> {
    let name: &str = column(row, 0)?;
    let partition = Partition::from_text(name)
        .map_err(|_| Error::corrupt("the stored name is none of a partition").with_key(name))?;
    let mut info = PartitionInfo::new(partition, unsigned(column(row, 1)?), column(row, 5)?);
    info.sequence = unsigned(column(row, 2)?);
    info.items = unsigned(column(row, 3)?);
    info.bytes = unsigned(column(row, 4)?);
    info.expires_at = column(row, 6)?;
    Ok(info)
}
