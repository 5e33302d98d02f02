//! Things that have one place: feature gates in the factory and where a crate has homes of several kinds, and reads of the environment in one of its files.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use super::member::{Member, Violation};
use super::source::Source;

/// The factory chooses backends; storage-managed has homes in clouds, each with a large SDK.
const GATED: [&str; 2] = ["storage-factory", "storage-managed"];
const ENVIRONMENT: &str = "storage-factory/src/environment.rs";
/// They start programs and servers for tests.
const TOOLS: [&str; 2] = ["xtask", "storage-tests"];
const READS: [&str; 4] = ["var", "var_os", "vars", "vars_os"];

/// What in `member` is somewhere else than its place.
pub(super) fn check(member: &Member) -> Vec<Violation> {
    member.sources.iter().flat_map(|source| check_source(&member.name, source)).collect()
}

fn check_source(member: &str, source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |lines: Vec<usize>, what: &str| {
        let violation = |line| Violation { file: source.path.clone(), line, what: what.into() };
        violations.extend(lines.into_iter().map(violation));
    };
    if !GATED.contains(&member) {
        let gates = lines_where(&source.tokens, starts_with_feature_gate);
        add(gates, "a feature gate; storage-factory and storage-managed alone have them");
    }
    if !TOOLS.contains(&member) && source.path != Path::new(ENVIRONMENT) {
        let reads = lines_where(&source.tokens, starts_with_environment_read);
        let what =
            format!("reads the environment; {ENVIRONMENT} alone does (tests: storage_tests::variable)");
        add(reads, &what);
    }
    violations
}

/// The lines of the tokens at which `is_start` holds, at any depth.
fn lines_where(tokens: &TokenStream, is_start: fn(&[TokenTree]) -> bool) -> Vec<usize> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut lines = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        if is_start(tokens.get(position..).unwrap_or_default()) {
            lines.push(token.span().start().line);
        } else if let TokenTree::Group(group) = token {
            lines.extend(lines_where(&group.stream(), is_start));
        }
    }
    lines
}

/// `cfg(... feature ...)`, `cfg_attr(... feature ...)` or `cfg!(... feature ...)`.
fn starts_with_feature_gate(tokens: &[TokenTree]) -> bool {
    let (name, group) = match tokens {
        [TokenTree::Ident(name), TokenTree::Group(group), ..] => (name, group),
        [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Group(group), ..] => (name, group),
        _ => return false,
    };
    (name == "cfg" || name == "cfg_attr") && mentions(group.stream(), &["feature"])
}

/// `env::var`, its sisters, or an import of them: `env::{var, ...}`.
fn starts_with_environment_read(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Ident(module), TokenTree::Punct(colon), TokenTree::Punct(_), next, ..] = tokens else {
        return false;
    };
    module == "env" && colon.as_char() == ':' && mentions(next.clone().into(), &READS)
}

fn mentions(tokens: TokenStream, names: &[&str]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => names.iter().any(|name| ident == name),
        TokenTree::Group(group) => mentions(group.stream(), names),
        _ => false,
    })
}
