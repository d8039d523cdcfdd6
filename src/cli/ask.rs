//! `umvu switch --ask`: one management command for a switch that runs, umvu's or `vde_switch`.
//!
//! The reply of a switch is an optional block of data, from `0000 DATA END WITH '.'` to a line with
//! a dot, and a status line: 1000 plus an error number, or 9999 when the session ends.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{failure::Failure, output};

/// How long a switch may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PROMPT: &str = "vde$ ";
const SUCCESS: u32 = 1000;
const END_OF_SESSION: u32 = 9999;

/// Sends `command` to the management socket `place` and prints what the switch tells; the exit
/// status is 1 when it refuses.
pub(super) fn ask(place: &Path, command: &str) -> Result<u8, Failure> {
    let failed = |error: &io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof => {
                "no answer as a switch gives (name its --mgmt socket, not its --sock)".to_owned()
            }
            _ => output::describe(error),
        };
        Failure(format!("--ask {}: {reason}", place.display()), 1)
    };
    let mut stream = UnixStream::connect(place).map_err(|error| failed(&error))?;
    let mut send = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{}\n", command.trim()).as_bytes())
    };
    send().map_err(|error| failed(&error))?;
    let reply = Reply::read(&mut BufReader::new(stream)).map_err(|error| failed(&error))?;
    output::print(&reply.data);
    if reply.code == SUCCESS || reply.code == END_OF_SESSION {
        return Ok(0);
    }
    Err(Failure(format!("{command}: {}", reply.text), 1))
}

/// What a switch replied.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    data: String,
    code: u32,
    text: String,
}

impl Reply {
    /// Reads up to the status line, past the greeting and prompts.
    fn read(lines: &mut impl BufRead) -> io::Result<Self> {
        let mut data = String::new();
        let mut in_data = false;
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.strip_prefix(PROMPT).unwrap_or(&line);
            match (in_data, line.trim_end()) {
                (true, ".") => in_data = false,
                (true, _) => data.push_str(line),
                (false, line) if line.starts_with("0000 DATA") => in_data = true,
                (false, line) => {
                    if let Some((code, text)) = status(line) {
                        return Ok(Self { data, code, text: text.to_owned() });
                    }
                }
            }
        }
    }
}

/// Reads a status line: four digits and a text.
fn status(line: &str) -> Option<(u32, &str)> {
    let (digits, text) = line.split_once(' ')?;
    let code = digits.parse().ok().filter(|code| digits.len() == 4 && *code >= SUCCESS)?;
    Some((code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Reply> {
        Reply::read(&mut text.as_bytes())
    }

    #[test]
    fn data_and_status_are_told_apart_from_greeting_and_prompt() {
        let text = "VDE switch V.2.3.2\n(C) Virtual Square Team\n\nvde$ 0000 DATA END WITH '.'\n\
                    1000 is data here\nPort 1\n.\n1000 Success\n\nvde$ ";
        let reply = read(text).expect("a reply");
        assert_eq!((reply.data.as_str(), reply.code), ("1000 is data here\nPort 1\n", 1000));
        let reply = read("greeting\n\nvde$ 1038 Function not implemented\n").expect("a reply");
        assert_eq!((reply.code, reply.text.as_str()), (1038, "Function not implemented"));
        assert_eq!(read("vde$ 9999 END OF SESSION\n").expect("a reply").code, 9999);
    }

    #[test]
    fn what_ends_before_a_status_is_no_reply() {
        assert!(read("hello\n").is_err());
        assert!(read("vde$ 0000 DATA END WITH '.'\n.\n").is_err());
    }
}
