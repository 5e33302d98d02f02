//! What is accepted and yet not stored is said.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use storage_agent::checkpoints::{CheckpointerBackend, Payload};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::cases::{WithValue, plain};

/// Keeps the text of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_put_warns_once_of_another_value_that_is_there_for_its_version() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let checkpointer = CheckpointerBackend::new(crate::memory().await);
    let put = async |number: usize, text: &str| {
        let value = Some(Payload::new("text", text.to_owned()));
        checkpointer.put(&plain("warned", "", number, None).with("messages", 3, value)).await.unwrap();
    };
    put(1, "first").await;
    put(2, "first").await;
    assert_eq!(*warnings.0.lock().unwrap(), [""; 0]);
    put(3, "another").await;
    let warned = warnings.0.lock().unwrap().clone();
    let [warned] = warned.as_slice() else { panic!("{warned:?}") };
    for named in ["warned", "messages", "Int(3)", "random", "another value is there"] {
        assert!(warned.contains(named), "{warned}");
    }
    assert!(!warned.contains("first"), "{warned}");
}
