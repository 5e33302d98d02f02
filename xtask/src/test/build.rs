//! Building the tests, and what there is to run then.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use cargo_metadata::{Artifact, Message, Metadata, Target};

use super::job::{Job, OnLimit};
use super::request::Request;
use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;

/// Builds all that the request asks for; fails when anything does not build.
pub(super) fn jobs(shell: &Shell, request: &Request, logs: &Path) -> Result<Vec<Job>> {
    let metadata = workspace::members(shell)?;
    let artifacts = match request.build() {
        Some(arguments) => built(shell, &arguments, &logs.join("build.json"))?,
        None => Vec::new(),
    };
    let has_library = artifacts.iter().any(|artifact| artifact.target.doctest);
    let mut jobs = artifacts
        .into_iter()
        .filter(|artifact| artifact.profile.test)
        .filter_map(|artifact| job(shell, request, &metadata, artifact))
        .collect::<Vec<_>>();
    jobs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    if let Some(arguments) = request.doctests(has_library) {
        jobs.push(Job {
            package: "all".into(),
            name: "doctests".into(),
            command: shell.cargo(&arguments),
            // Cargo goes on with the next package.
            on_limit: OnLimit::KillChildren,
        });
    }
    Ok(jobs)
}

/// Builds, and reads what was built from the file through which cargo tells it.
fn built(shell: &Shell, arguments: &[&str], told: &Path) -> Result<Vec<Artifact>> {
    let mut command = shell.cargo(arguments);
    command.stdout(File::create(told)?);
    shell.run(command)?;
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(BufReader::new(File::open(told)?)) {
        if let Message::CompilerArtifact(artifact) = message? {
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

/// Runs as `cargo test` would run it, in the folder of its package.
fn job(shell: &Shell, request: &Request, metadata: &Metadata, artifact: Artifact) -> Option<Job> {
    let package = metadata.packages.iter().find(|package| package.id == artifact.package_id)?;
    let folder = package.manifest_path.parent()?;
    let mut command = shell.command(artifact.executable?, &request.tests().collect::<Vec<_>>());
    command.current_dir(folder).env("CARGO_MANIFEST_DIR", folder);
    command.env("RUST_TEST_THREADS", threads().to_string());
    Some(Job {
        package: package.name.to_string(),
        name: name(&artifact.target),
        command,
        on_limit: OnLimit::Kill,
    })
}

/// How many tests of a binary run at a time: most of them wait, for disks, servers and clocks. `--test-threads` wins over it.
fn threads() -> usize {
    storage_tests::threads(2 * std::thread::available_parallelism().map_or(1, usize::from))
}

/// `lib`, or the kind and the name: a program and a test may have the same.
fn name(target: &Target) -> String {
    match target.kind.first() {
        _ if target.doctest => "lib".into(),
        Some(kind) => format!("{kind} {}", target.name),
        None => target.name.clone(),
    }
}
