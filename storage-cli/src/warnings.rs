//! What the library warns of, on stderr.

use std::fmt::{Debug, Write};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
};

use crate::{
    failure::{Failure, USAGE},
    output::warn,
};

/// Shows warnings and errors of our own crates from here on; those of others are the business of whoever debugs them.
pub(crate) fn show(json: bool) {
    let ours = |event: &Metadata<'_>| *event.level() <= Level::WARN && event.target().starts_with("storage_");
    let shown = tracing_subscriber::registry().with(Shown { json }.with_filter(filter_fn(ours)));
    // Where there is one already, it shows them.
    let _ = tracing::subscriber::set_global_default(shown);
}

struct Shown {
    json: bool,
}

impl<S: Subscriber> Layer<S> for Shown {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        warn(Failure::new(USAGE, "warning", text.message + &text.fields), self.json);
    }
}

/// The message, and after it what belongs to it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }
}
