//! Real programs on an emulated stack: what `ip`, `ss`, `ifconfig` and others print.
//!
//! They run with a preloaded shim that leads their sockets to a server in the test. The expected
//! outputs were taken from a real kernel in a network namespace. On plain Linux these tests would
//! need the privilege to make one; the model's own tests hold the same rules.

#[path = "programs/server.rs"]
mod server;

use server::Server;

fn strip(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn play() {
    let Some(server) = Server::start() else { return };
    let Ok(script) = std::env::var("PLAY") else { return };
    for line in std::fs::read_to_string(script).expect("a script").lines() {
        let line = line.strip_prefix("x ").unwrap_or(line);
        println!("$ {line}");
        print!("{}", server.run(line));
    }
}
