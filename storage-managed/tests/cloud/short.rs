//! Processes that live for a second, after one that was killed while it held the lease.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use storage_tests::short_processes;

use crate::{
    model::in_home,
    place::{Cloud, Place},
};

/// A program of `examples/`, which cargo builds for the tests.
fn once() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().join("examples/once")
}

fn command(place: &Place, cache: &str, text: &str) -> Command {
    let mut command = Command::new(once());
    command.arg(place.url()).arg(place.cache(cache)).arg(text);
    let variables = place.variables(place.cloud.port());
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command
}

/// Writes a row and is killed with the lease.
fn write_and_be_killed(place: &Place, cache: &str) {
    let mut writer: Child =
        command(place, cache, "killed").arg("stay").stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(writer.stdout.take().unwrap()).lines().next();
    assert_eq!(said.unwrap().unwrap(), "ok");
    writer.kill().unwrap();
    writer.wait().unwrap();
}

/// Each writes, one after another.
async fn write_each(place: &Place, caches: impl Iterator<Item = String>) {
    let mut expected = in_home(place).await;
    for cache in caches {
        let text = expected.len().to_string();
        let mut command = command(place, &cache, &text);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(ended.status.success(), "{text}: {}", String::from_utf8_lossy(&ended.stderr));
        expected.push(text);
    }
    assert_eq!(in_home(place).await, expected);
}

pub(crate) async fn on_its_own_cache(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    write_and_be_killed(&place, "agent");
    let holder = place.direct().holder().await.unwrap().expect("it was killed with the lease");
    assert!(holder.owner.unwrap().starts_with("process "), "no process is named");
    let start = Instant::now();
    // Reading waits for nobody.
    assert_eq!(in_home(&place).await, ["killed"]);
    write_each(&place, std::iter::once("agent".to_owned())).await;
    assert!(start.elapsed() < Duration::from_secs(12), "the term of 15 s was waited for");
    write_each(&place, (1..short_processes(4)).map(|_| "agent".to_owned())).await;
}

pub(crate) async fn on_other_caches(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    write_and_be_killed(&place, "agent");
    write_each(&place, (0..short_processes(4)).map(|number| format!("cache {number}"))).await;
}

/// The cache of a living writer is copied, as with its machine: the copy takes nothing away from it.
pub(crate) async fn a_copied_cache(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let mut writer = command(&place, "agent", "killed").arg("stay").stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(writer.stdout.take().unwrap()).lines().next();
    assert_eq!(said.unwrap().unwrap(), "ok");
    std::fs::create_dir(place.cache("copy")).unwrap();
    for file in std::fs::read_dir(place.cache("agent")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            std::fs::copy(&file, place.cache("copy").join(file.file_name().unwrap())).unwrap();
        }
    }
    assert!(place.cache("copy").join("leases").exists(), "what is copied is not what is tested");
    let before = place.direct().holder().await.unwrap().unwrap();
    let copy = place.open(place.options("copy")).await.unwrap();
    let refused = crate::model::add(&copy, "copy").await;
    assert!(matches!(refused, Err(storage_managed::Error::LeaseTaken { .. })), "{refused:?}");
    assert_eq!(place.direct().holder().await.unwrap().unwrap().owner, before.owner);
    copy.close().await.unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
}
