//! Arguments as of `cargo test`, and whom each of them concerns.

/// Options of `cargo test` whose value may be the next word.
const WITH_VALUE: [&str; 17] = [
    "-p",
    "--package",
    "--exclude",
    "-F",
    "--features",
    "-j",
    "--jobs",
    "--bin",
    "--test",
    "--example",
    "--bench",
    "--profile",
    "--target",
    "--target-dir",
    "--config",
    "--color",
    "-Z",
];
/// Options that choose binaries, and so no doctests.
const BINARIES: [&str; 10] = [
    "--lib",
    "--bin",
    "--bins",
    "--test",
    "--tests",
    "--example",
    "--examples",
    "--bench",
    "--benches",
    "--all-targets",
];
/// Arguments of test binaries whose output is the point of the run.
const SHOWN: [&str; 4] = ["--nocapture", "--no-capture", "--show-output", "--list"];
const DOC: &str = "--doc";

/// What somebody wants tested.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// For cargo.
    options: Vec<String>,
    /// For test binaries: names, and what stands behind `--`.
    tests: Vec<String>,
    has_filters: bool,
}

impl Request {
    pub(super) fn new(arguments: &[String]) -> Request {
        let mut request = Request::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if !word.starts_with('-') {
                request.tests.push(word.clone());
                request.has_filters = true;
                continue;
            }
            request.options.push(word.clone());
            if WITH_VALUE.contains(&word.as_str()) {
                request.options.extend(words.next().cloned());
            }
        }
        request.tests.extend(words.cloned());
        request
    }

    /// The arguments of cargo that build the binaries of tests; none when none are wanted.
    pub(super) fn build(&self) -> Option<Vec<&str>> {
        let build = || ["--no-run", "--message-format", "json-render-diagnostics"].into_iter();
        (!self.has(DOC)).then(|| self.cargo().chain(build()).collect())
    }

    /// The arguments of cargo that run doctests; none when none are wanted.
    pub(super) fn doctests(&self, has_library: bool) -> Option<Vec<&str>> {
        let wants_binaries = BINARIES.iter().any(|option| self.has(option));
        if !self.has(DOC) && (wants_binaries || !has_library) {
            return None;
        }
        let doc = (!self.has(DOC)).then_some(DOC);
        let run = doc.into_iter().chain(["--no-fail-fast", "--"]);
        Some(self.cargo().chain(run).chain(self.tests()).collect())
    }

    /// The arguments of test binaries.
    pub(super) fn tests(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().map(String::as_str)
    }

    /// Whether tests are chosen by their names.
    pub(super) fn has_filters(&self) -> bool {
        self.has_filters
    }

    /// Whether somebody wants to see what tests print.
    pub(super) fn shows_output(&self) -> bool {
        self.tests().any(|argument| SHOWN.contains(&argument))
    }

    fn cargo(&self) -> impl Iterator<Item = &str> {
        // `--workspace` would override a choice of packages.
        let chooses = |option: &String| option.starts_with("-p") || option.starts_with("--package");
        let scope = (!self.options.iter().any(chooses)).then_some("--workspace");
        ["test", "--all-features"].into_iter().chain(scope).chain(self.options.iter().map(String::as_str))
    }

    fn has(&self, option: &str) -> bool {
        let is_it =
            |given: &str| given == option || given.split_once('=').is_some_and(|(name, _)| name == option);
        self.options.iter().any(|given| is_it(given))
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    const BUILD: [&str; 3] = ["--no-run", "--message-format", "json-render-diagnostics"];

    fn request(arguments: &str) -> Request {
        Request::new(&arguments.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    fn doctests(arguments: &str) -> Option<String> {
        Some(request(arguments).doctests(true)?.join(" "))
    }

    #[test]
    fn a_choice_of_packages_replaces_the_workspace() {
        let all = request("");
        assert_eq!(all.build().unwrap(), [&["test", "--all-features", "--workspace"], &BUILD[..]].concat());
        let one = request("-p storage-core");
        assert_eq!(
            one.build().unwrap(),
            [&["test", "--all-features", "-p", "storage-core"], &BUILD[..]].concat()
        );
    }

    #[test]
    fn names_and_what_follows_the_dashes_go_to_the_binaries() {
        let request = request("-p storage-redis ttl --release -- --nocapture --skip slow");
        assert_eq!(request.tests().collect::<Vec<_>>(), ["ttl", "--nocapture", "--skip", "slow"]);
        assert_eq!(request.options, ["-p", "storage-redis", "--release"]);
        assert!(request.has_filters() && request.shows_output());
    }

    #[test]
    fn doctests_run_unless_binaries_were_chosen() {
        let all = "test --all-features --workspace --doc --no-fail-fast --";
        assert_eq!(doctests("").unwrap(), all);
        assert_eq!(doctests("scan").unwrap(), format!("{all} scan"));
        assert_eq!(doctests("--test store"), None);
        assert_eq!(doctests("--bin=storage"), None);
        assert_eq!(request("-p xtask").doctests(false), None);
    }

    #[test]
    fn doctests_alone_need_no_binaries() {
        assert_eq!(request("--doc").build(), None);
        assert_eq!(doctests("--doc").unwrap(), "test --all-features --workspace --doc --no-fail-fast --");
    }
}
