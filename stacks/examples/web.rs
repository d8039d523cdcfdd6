//! A web server and its client, each with a stack of its own.
//!
//! * `web`: both, in two threads on a switch of this process;
//! * `web serve VNL ADDRESS/PREFIX`: the server on a network that others may join, port 80;
//! * `web get VNL ADDRESS/PREFIX SERVER`: the client, which has an address too.
//!
//! For example, in two terminals: `web serve vxvde:// 10.0.0.1/24` and
//! `web get vxvde:// 10.0.0.2/24 10.0.0.1`; or any browser that umvu, or vdens(1), puts there.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::IpAddr,
    process::ExitCode,
    thread,
    time::Duration,
};

use umvu_stacks::net::{Stack, TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a silent client is listened to.
const PATIENCE: Duration = Duration::from_secs(10);

fn open(wire: &str, address: &str) -> Result<Stack> {
    Ok(Stack::open("smoltcp", &format!("{wire},ip={address}"))?)
}

/// Answers one request: whatever is asked for, a page that names it.
fn answer(stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?;
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET", path, _] => ("200 OK", format!("This is {path} for {peer}, from a thread.\n")),
        _ => ("400 Bad Request", "Only GET is known here.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (&stream).write_all((head + &body).as_bytes())
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        thread::spawn(|| answer(stream));
    }
}

fn get(stack: &Stack, server: IpAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(stack, (server, 80))?;
    stream.write_all(format!("GET /index.html HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            let place = std::env::temp_dir().join(format!("web.{}", std::process::id()));
            let wire = format!("switch://{}", place.display());
            let listener = TcpListener::bind(&open(&wire, "10.0.0.1/24")?, "10.0.0.1:80")?;
            thread::scope(|scope| {
                scope.spawn(|| serve(&listener));
                let page = open(&wire, "10.0.0.2/24")
                    .and_then(|stack| Ok(get(&stack, "10.0.0.1".parse()?)?));
                // The server's thread ends with its listener.
                listener.shutdown()?;
                println!("{}", page?);
                Ok(())
            })
        }
        ["serve", wire, address] => {
            let listener = TcpListener::bind(&open(wire, address)?, "0.0.0.0:80")?;
            println!("serving at {address}, port 80, until interrupted");
            serve(&listener);
            Ok(())
        }
        ["get", wire, address, server] => {
            println!("{}", get(&open(wire, address)?, server.parse()?)?);
            Ok(())
        }
        _ => Err("usage: web | web serve VNL ADDRESS/PREFIX | web get VNL ADDRESS/PREFIX SERVER")?,
    }
}
