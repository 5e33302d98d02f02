//! Where a user's data is.

use std::collections::BTreeMap;

use serde_json::Value;
use storage_core::{Error, Result};

/// What of a user there is besides sessions and what belongs to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    /// The member of checkpoints' metadata that names the user, as LangGraph copies it there from `configurable`; a thread
    /// with such a checkpoint is the user's. `None`: threads have none.
    pub thread_member: Option<String>,
    /// What the ids of the user's threads start with; none unless set.
    pub thread_prefixes: Vec<String>,
    /// The namespaces of the user's memories.
    pub namespaces: Vec<Vec<String>>,
}

impl UserData {
    /// The usual places: threads whose checkpoints' metadata has the `user_id`, and memories in the namespaces `{user}`,
    /// `users/{user}` and `memories/{user}`.
    #[must_use]
    pub fn of(user_id: &str) -> Self {
        let namespace = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        Self {
            thread_member: Some("user_id".to_owned()),
            thread_prefixes: Vec::new(),
            namespaces: vec![
                namespace(&[user_id]),
                namespace(&["users", user_id]),
                namespace(&["memories", user_id]),
            ],
        }
    }

    pub(crate) fn check(&self, user_id: &str) -> Result<()> {
        if user_id.is_empty() {
            return Err(Error::invalid_input("the id of a user may not be empty"));
        }
        if self.thread_prefixes.iter().any(String::is_empty) {
            let message = "an empty prefix would delete the threads of all users";
            return Err(Error::invalid_input(message)
                .with_hint("name what the ids of this user's threads start with"));
        }
        Ok(())
    }

    /// Whether metadata names the user, whose id may stand there as a number.
    pub(crate) fn names(&self, user_id: &str, metadata: &BTreeMap<String, Value>) -> bool {
        match self.thread_member.as_ref().and_then(|member| metadata.get(member)) {
            Some(Value::String(id)) => id == user_id,
            Some(Value::Number(id)) => id.to_string() == user_id,
            _ => false,
        }
    }

    pub(crate) fn has_thread(&self, id: &str) -> bool {
        self.thread_prefixes.iter().any(|prefix| id.starts_with(prefix))
    }
}
