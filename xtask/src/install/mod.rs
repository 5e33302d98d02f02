//! Installing what tests need on Debian and Ubuntu; elsewhere, saying what is missing.

mod tools;

pub(crate) use tools::litestream;

use nix::unistd::geteuid;
use storage_tests::programs;

use crate::result::Result;
use crate::shell::Shell;

/// Installs the servers and the C compiler, which the bundled SQLite needs, as far as they are missing.
pub(crate) fn servers_and_compiler(shell: &Shell) -> Result<()> {
    let packages = missing_packages();
    if !packages.is_empty() {
        if let Err(error) = install(shell, &packages) {
            eprintln!("{} could not be installed: {error}", packages.join(", "));
        }
        // Says for each what to install by hand, if it is still missing.
        programs::redis_server()?;
        programs::postgres_folder()?;
        programs::pgbouncer()?;
        programs::find("cc")
            .ok_or("cc was not found: install a C compiler (Debian, Ubuntu: build-essential)")?;
    }
    tools::install(shell)
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if programs::redis_server().is_err() {
        packages.push("redis-server");
    }
    if programs::postgres_folder().is_err() {
        packages.extend(["postgresql", "postgresql-client"]);
    }
    if programs::pgbouncer().is_err() {
        packages.push("pgbouncer");
    }
    if programs::find("cc").is_none() {
        packages.push("build-essential");
    }
    packages
}

fn install(shell: &Shell, packages: &[&str]) -> Result<()> {
    let apt = programs::find("apt-get").ok_or("there is no apt-get here")?;
    let apt = apt.to_str().ok_or("the path of apt-get is not UTF-8")?;
    let mut words = Vec::new();
    if !geteuid().is_root() {
        programs::find("sudo").ok_or("that needs root, and there is no sudo")?;
        words.extend(["sudo", "-n"]);
    }
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", apt, "--quiet", "--quiet"]);
    let run = |arguments: &[&str]| {
        let words: Vec<&str> = words.iter().chain(arguments).copied().collect();
        let (program, arguments) = words.split_first().ok_or("no command")?;
        let mut command = shell.command(program, arguments);
        // The standard output is for what the task itself has to say.
        command.stdout(std::io::stderr());
        shell.run(command)
    };
    run(&["update"])?;
    run(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}
