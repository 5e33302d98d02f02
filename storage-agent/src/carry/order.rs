//! The order of the lines of an export: each place once, so that nothing of a file overwrites what the same file brought.

use storage_core::Partition;

use super::{
    format::Line,
    kinds::{self, Range},
};
use crate::memories;

/// Where the last line stood.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Option<Place>,
    /// The ranges in which the items of the last partition come.
    ranges: Vec<Range>,
    /// Where its last item stood.
    item: Option<(usize, String)>,
}

/// Entries, then partitions, then memories; each by name, memories by what lies below their first label, too.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u8, String, String);

impl Order {
    /// Says what is wrong with a line that does not come behind the one before.
    pub(super) fn check(&mut self, line: &Line) -> Result<(), String> {
        let place = match line {
            Line::Entry(entry) => Place(0, entry.key.clone(), String::new()),
            Line::Partition(partition) => Place(1, partition.name.clone(), String::new()),
            Line::Memory(memory) => {
                let (partition, sort) = memories::place_of(&memory.namespace, &memory.key)
                    .map_err(|error| error.message().to_owned())?;
                Place(2, partition.as_str().to_owned(), sort)
            }
            Line::Item(item) => return self.item(&item.sort),
            _ => return Ok(()),
        };
        // A partition that comes again begins anew.
        let again = place.0 == 1 && self.last.as_ref() == Some(&place);
        if !again && self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err("it comes twice, or out of the order of exports".to_owned());
        }
        if let Line::Partition(line) = line {
            self.ranges = Partition::from_text(&line.name).map_or(Vec::new(), |of| kinds::ranges(of.kind()));
            self.item = None;
        }
        self.last = Some(place);
        Ok(())
    }

    fn item(&mut self, sort: &str) -> Result<(), String> {
        let range = self.ranges.iter().position(|range| kinds::is_in(range, sort));
        let place = (range.unwrap_or_default(), sort.to_owned());
        if self.item.as_ref().is_some_and(|last| *last >= place) {
            return Err("the item comes twice, or out of the order of exports".to_owned());
        }
        self.item = Some(place);
        Ok(())
    }
}
