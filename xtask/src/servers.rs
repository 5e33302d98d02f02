//! `cargo xtask servers`: the servers of the tests, for as long as somebody wants them.

use std::io::Write;
use std::time::Instant;

use storage_tests::SharedServers;

use crate::install;
use crate::result::Result;
use crate::shell::Shell;

/// Prints `export` lines, which a shell can evaluate, to the standard output; all else goes elsewhere.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let servers = start(shell)?;
    for (name, value) in servers.variables() {
        println!("export {name}={}", quote(&value));
    }
    std::io::stdout().flush()?;
    eprintln!("The servers run until Ctrl-C.");
    shell.wait_for_interrupt();
    Ok(())
}

/// Installs what is missing, starts the servers, and says where they are.
pub(crate) fn start(shell: &Shell) -> Result<SharedServers> {
    install::servers_and_compiler(shell)?;
    let started = Instant::now();
    let servers = SharedServers::start()?;
    eprintln!("Servers on 127.0.0.1, started in {:.1} s:", started.elapsed().as_secs_f64());
    for (server, ports) in servers.summary() {
        eprintln!("  {server:<20} {ports}");
    }
    Ok(servers)
}

/// `text` as one word of a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn any_text_is_one_word_of_a_shell() {
        assert_eq!(quote("redis://a?b&c"), "'redis://a?b&c'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
