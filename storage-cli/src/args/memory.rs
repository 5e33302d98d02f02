//! `storage memory`.

use std::time::Duration;

use clap::Subcommand;

use super::values::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Memory {
    /// Put a memory, over one that is there.
    Put {
        /// The namespace, such as users/42/facts.
        namespace: String,
        /// Its name there.
        key: String,
        /// The value, a JSON object, or - to read it from stdin.
        #[arg(value_name = "JSON|-")]
        value: String,
        /// How long it stays, such as 30d; without it for good.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
        /// Put it only if there is none.
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
        /// Put it only if the one that is there has this version, which get --json shows.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<String>,
    },
    /// Print the value of a memory on one line; with --json all that is known of it.
    Get {
        /// The namespace, such as users/42/facts.
        namespace: String,
        /// Its name there.
        key: String,
    },
    /// List the memories in a namespace and in all below it, the latest first.
    Search {
        /// The namespace, such as users/42; without it all.
        #[arg(default_value = "", hide_default_value = true)]
        namespace: String,
        /// What their values must be, such as '{"kind": "fact", "score": {"$gte": 0.5}}'; there are $eq, $ne, $gt, $gte, $lt
        /// and $lte.
        #[arg(long, value_name = "JSON|-")]
        filter: Option<String>,
        /// What their strings must say, as `storage search` has it; the best come first.
        #[arg(long)]
        query: Option<String>,
        /// How many memories at most.
        #[arg(long, default_value_t = 10, value_name = "N")]
        limit: usize,
        /// How many to pass over.
        #[arg(long, default_value_t = 0, value_name = "N")]
        offset: usize,
    },
    /// List the namespaces that have memories, in the order of their labels.
    Namespaces {
        /// Only those that begin with this, such as users or 'users/*/facts'; * stands for any one label.
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        /// Only those that end with this, such as facts or 'facts/*'.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "LABELS")]
        suffix: String,
        /// How many labels to show: of longer namespaces the first, each once.
        #[arg(long, value_name = "N")]
        depth: Option<usize>,
        /// How many namespaces at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// How many to pass over.
        #[arg(long, default_value_t = 0, value_name = "N")]
        offset: usize,
    },
    /// Delete a memory, or all in a namespace and below it.
    Delete {
        /// The namespace, such as users/42/facts.
        namespace: String,
        /// The name of the memory there.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        key: Option<String>,
        /// All in the namespace and in those below it.
        #[arg(long)]
        all: bool,
    },
    /// Remove what is left of expired memories now.
    Cleanup,
}
