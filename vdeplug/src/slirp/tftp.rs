//! `tftp_path=`: the files of a folder of this host, to be read by TFTP (RFC 1350) from the router's
//! port 69, also by what boots over the network. Options: block size (RFC 2348), timeout and size
//! (RFC 2349). Nothing outside the folder is reached, by `..` or by a symbolic link, and nothing is
//! written.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use smoltcp::time::{Duration, Instant};

use super::{flow::Key, nat::Nat};
use crate::ip::hash::Map;

/// Where the server is.
pub(super) const PORT: u16 = 69;
/// Transfers at a time; beyond, the one that was silent for longest ends.
const MOST: usize = 64;
/// Bytes of a block when the client names no other number.
const BLOCK: usize = 512;
/// What a packet has before a block: IP, UDP and TFTP headers.
const HEADERS: usize = 40 + 8 + 4;
/// When a block is sent again that was not acknowledged, and how often.
const TIMEOUT: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// What is wrong: the code of RFC 1350, and a text.
type Refusal = (u16, &'static str);

/// The folder, and who reads from it.
#[derive(Debug)]
pub(super) struct Tftp {
    root: OwnedFd,
    transfers: Map<SocketAddr, Transfer>,
}

/// A file on its way.
#[derive(Debug)]
struct Transfer {
    /// The address that was asked, which answers.
    from: IpAddr,
    content: Content,
    block_size: usize,
    /// The number of the last packet sent; of the options it is 0.
    number: u16,
    packet: Vec<u8>,
    is_last: bool,
    timeout: Duration,
    due: Instant,
    tries: u32,
}

/// A file as it is sent.
#[derive(Debug)]
enum Content {
    Octets(File),
    /// As text of a terminal (RFC 764): what was begun and not yet sent.
    Text(BufReader<File>, Option<u8>),
}

impl Content {
    /// Fills a block; it is shorter only at the end.
    fn fill(&mut self, block: &mut Vec<u8>, size: usize) -> io::Result<()> {
        match self {
            Self::Octets(file) => file.take(size as u64).read_to_end(block).map(drop),
            Self::Text(file, begun) => {
                let end = block.len() + size;
                block.extend(begun.take());
                let mut bytes = file.by_ref().bytes();
                while block.len() < end {
                    let (first, second) = match bytes.next().transpose()? {
                        Some(b'\n') => (b'\r', Some(b'\n')),
                        Some(b'\r') => (b'\r', Some(0)),
                        Some(byte) => (byte, None),
                        None => break,
                    };
                    block.push(first);
                    if block.len() < end {
                        block.extend(second);
                    } else {
                        *begun = second;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A request to read: the words behind its opcode.
struct Request<'a> {
    name: &'a [u8],
    as_text: bool,
    options: Vec<(String, &'a str)>,
}

impl<'a> Request<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let malformed = (4, "malformed request");
        let body = body.strip_suffix(&[0]).ok_or(malformed)?;
        let mut words = body.split(|byte| *byte == 0);
        let name = words.next().filter(|name| !name.is_empty()).ok_or(malformed)?;
        let as_text = match words.next().map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"octet") => false,
            Some(b"netascii") => true,
            Some(_) => return Err((4, "unsupported transfer mode")),
            None => return Err(malformed),
        };
        let mut options = Vec::new();
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            let text = |word| std::str::from_utf8(word).map_err(|_| malformed);
            options.push((text(option)?.to_ascii_lowercase(), text(value)?));
        }
        Ok(Self { name, as_text, options })
    }
}

impl Tftp {
    /// Opens the folder. Errors: those of open(2).
    pub(super) fn new(folder: &Path) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: open(folder, flags, Mode::empty())?, transfers: Map::default() })
    }

    /// Works on a datagram of a guest; returns the answer, if there is one.
    fn input(&mut self, key: &Key, data: &[u8], mtu: usize, now: Instant) -> Option<Vec<u8>> {
        let (opcode, body) = data.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*opcode) {
            READ => {
                self.transfers.remove(&key.guest);
                Some(self.begin(key, body, mtu, now).unwrap_or_else(refuse))
            }
            WRITE => Some(refuse((2, "nothing can be written here"))),
            ACK => self.acknowledged(key.guest, u16::from_be_bytes(*body.first_chunk()?), now),
            // An error is never answered (RFC 1350, section 7).
            ERROR => {
                self.transfers.remove(&key.guest);
                None
            }
            _ => Some(refuse((4, "illegal operation"))),
        }
    }

    fn open(&self, name: &[u8]) -> Result<File, Refusal> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(inside);
        let file = match openat2(&self.root, name, how) {
            Ok(fd) => File::from(fd),
            Err(Errno::EACCES | Errno::EPERM | Errno::ELOOP) => {
                return Err((2, "access violation"));
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => {
                return Err((1, "file not found"));
            }
            Err(_) => return Err((0, "the file cannot be opened")),
        };
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if is_file { Ok(file) } else { Err((2, "not a regular file")) }
    }

    fn begin(
        &mut self,
        key: &Key,
        body: &[u8],
        mtu: usize,
        now: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let request = Request::parse(body)?;
        let file = self.open(request.name)?;
        let mut transfer = Transfer {
            from: key.far.ip(),
            content: Content::Octets(file),
            block_size: BLOCK,
            number: 0,
            packet: OPTIONS.to_be_bytes().to_vec(),
            is_last: false,
            timeout: TIMEOUT,
            due: now,
            tries: 0,
        };
        for (option, value) in &request.options {
            let Some(granted) = transfer.grant(option, value, request.as_text, mtu) else {
                continue;
            };
            for word in [option.as_bytes(), granted.to_string().as_bytes()] {
                transfer.packet.extend_from_slice(word);
                transfer.packet.push(0);
            }
        }
        if request.as_text
            && let Content::Octets(file) = transfer.content
        {
            transfer.content = Content::Text(BufReader::new(file), None);
        }
        if transfer.packet.len() == 2 {
            transfer.advance()?;
        }
        transfer.due = now + transfer.timeout;
        let packet = transfer.packet.clone();
        if self.transfers.len() >= MOST {
            let oldest = self.transfers.iter().min_by_key(|(_, transfer)| transfer.due);
            let oldest = oldest.map(|(guest, _)| *guest);
            oldest.into_iter().for_each(|guest| drop(self.transfers.remove(&guest)));
        }
        self.transfers.insert(key.guest, transfer);
        Ok(packet)
    }

    fn acknowledged(&mut self, guest: SocketAddr, number: u16, now: Instant) -> Option<Vec<u8>> {
        let Some(transfer) = self.transfers.get_mut(&guest) else {
            return Some(refuse((5, "unknown transfer")));
        };
        // An old acknowledgement is no request to send again, or all would go twice from then on.
        if number != transfer.number {
            return None;
        }
        if transfer.is_last {
            self.transfers.remove(&guest);
            return None;
        }
        match transfer.advance() {
            Ok(()) => {
                (transfer.due, transfer.tries) = (now + transfer.timeout, 0);
                Some(transfer.packet.clone())
            }
            Err(refusal) => {
                self.transfers.remove(&guest);
                Some(refuse(refusal))
            }
        }
    }

    /// What was not acknowledged in time, to be sent again: from, to, and the packet.
    fn overdue(&mut self, now: Instant) -> Vec<(IpAddr, SocketAddr, Vec<u8>)> {
        self.transfers.retain(|_, transfer| transfer.due > now || transfer.tries < TRIES);
        let late = self.transfers.iter_mut().filter(|(_, transfer)| transfer.due <= now);
        let again = late.map(|(guest, transfer)| {
            transfer.tries += 1;
            transfer.due = now + transfer.timeout;
            (transfer.from, *guest, transfer.packet.clone())
        });
        again.collect()
    }

    /// When that is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.transfers.values().map(|transfer| transfer.due).min()
    }
}

impl Transfer {
    /// What an option is granted as; None for one that is not known, or not for this file.
    fn grant(&mut self, option: &str, value: &str, as_text: bool, mtu: usize) -> Option<u64> {
        let value: u64 = value.parse().ok()?;
        match option {
            "blksize" => {
                let size =
                    usize::try_from(value).ok().filter(|size| (8..=65_464).contains(size))?;
                self.block_size = size.min(mtu.saturating_sub(HEADERS).max(BLOCK));
                Some(self.block_size as u64)
            }
            "timeout" if (1..=255).contains(&value) => {
                self.timeout = Duration::from_secs(value);
                Some(value)
            }
            "tsize" if !as_text => match &self.content {
                Content::Octets(file) => file.metadata().ok().map(|found| found.len()),
                Content::Text(..) => None,
            },
            _ => None,
        }
    }

    /// Goes on to the next block.
    fn advance(&mut self) -> Result<(), Refusal> {
        // The numbers begin again after 65535, for files that are larger than that.
        self.number = self.number.wrapping_add(1);
        self.packet.clear();
        self.packet.extend_from_slice(&DATA.to_be_bytes());
        self.packet.extend_from_slice(&self.number.to_be_bytes());
        let filled = self.content.fill(&mut self.packet, self.block_size);
        filled.map_err(|_| (0, "the file cannot be read"))?;
        self.is_last = self.packet.len() < 4 + self.block_size;
        Ok(())
    }
}

fn refuse((code, text): Refusal) -> Vec<u8> {
    [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes(), &[0]].concat()
}

impl Nat {
    /// Answers a TFTP client.
    pub(super) fn tftp_input(&mut self, key: &Key, data: &[u8]) {
        let (mtu, now) = (self.config.mtu, self.now);
        let answer = self.tftp.as_mut().and_then(|tftp| tftp.input(key, data, mtu, now));
        if let Some(answer) = answer {
            self.send_udp((key.far.ip(), PORT), (key.guest.ip(), key.guest.port()), &answer);
        }
    }

    /// Sends again what clients may have missed.
    pub(super) fn tftp_expire(&mut self) {
        let now = self.now;
        let again = self.tftp.as_mut().map(|tftp| tftp.overdue(now)).unwrap_or_default();
        for (from, to, packet) in again {
            self.send_udp((from, PORT), (to.ip(), to.port()), &packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    struct Server {
        tftp: Tftp,
        key: Key,
        now: Instant,
        _folder: tempfile::TempDir,
    }

    impl Server {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let place = folder.path().join("served");
            fs::create_dir_all(place.join("sub")).expect("a folder");
            fs::write(folder.path().join("secret"), "secret").expect("a file");
            fs::write(place.join("exact"), [7; 1024]).expect("a file");
            fs::write(place.join("text"), "a\nb\rc").expect("a file");
            fs::write(place.join("sub/large"), vec![9; 8 * 70_000]).expect("a file");
            symlink("../secret", place.join("out")).expect("a link");
            symlink("/exact", place.join("in")).expect("a link");
            let tftp = Tftp::new(&place).expect("it is there");
            let ends = ["10.0.2.15:1000", "10.0.2.2:69"].map(|end| end.parse().expect("literal"));
            let key = Key { guest: ends[0], far: ends[1] };
            Self { tftp, key, now: Instant::from_secs(1), _folder: folder }
        }

        fn say(&mut self, opcode: u16, body: &[u8]) -> Option<Vec<u8>> {
            let data = [&opcode.to_be_bytes()[..], body].concat();
            self.tftp.input(&self.key, &data, 1500, self.now)
        }

        fn read(&mut self, words: &str) -> Vec<u8> {
            let body = words.replace(' ', "\0") + "\0";
            self.say(READ, body.as_bytes()).expect("an answer")
        }

        /// Takes a whole file, whose first packet is given.
        fn take(&mut self, mut packet: Vec<u8>, size: usize) -> Vec<u8> {
            let mut content = Vec::new();
            loop {
                assert_eq!(packet[..2], DATA.to_be_bytes());
                content.extend_from_slice(&packet[4..]);
                let number = [packet[2], packet[3]];
                let is_last = packet.len() < 4 + size;
                match self.say(ACK, &number) {
                    Some(next) if !is_last => packet = next,
                    None if is_last => return content,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn files_come_whole_and_end_with_a_short_block() {
        let mut server = Server::new();
        let first = server.read("exact octet");
        assert_eq!(server.take(first, 512), [7; 1024]);
        let first = server.read("/in OCTET");
        assert_eq!(server.take(first, 512), [7; 1024]);
        let first = server.read("text netascii");
        assert_eq!(server.take(first, 512), b"a\r\nb\r\0c");
        // More blocks than there are numbers.
        let granted = server.read("sub/large octet blksize 8");
        assert_eq!(granted, b"\0\x06blksize\x008\0");
        let first = server.say(ACK, &[0, 0]).expect("the first block");
        assert_eq!(server.take(first, 8), vec![9; 8 * 70_000]);
    }

    #[test]
    fn a_line_end_may_be_cut_by_the_end_of_a_block() {
        let mut content = Vec::new();
        let file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut &file, &b"\n".repeat(20)).expect("it is written");
        io::Seek::rewind(&mut &file).expect("it is a file");
        let mut text = Content::Text(BufReader::new(file), None);
        for size in [9, 9, 9, 9, 4] {
            let mut block = Vec::new();
            text.fill(&mut block, 9).expect("it is read");
            assert_eq!(block.len(), size);
            content.extend(block);
        }
        assert_eq!(content, b"\r\n".repeat(20));
    }

    #[test]
    fn options_are_granted_as_far_as_they_can_be() {
        let mut server = Server::new();
        let granted = server.read("exact octet tsize 0 BlkSize 9000 timeout 3 windowsize 4");
        assert_eq!(granted, b"\0\x06tsize\x001024\0blksize\x001448\0timeout\x003\0");
        assert_eq!(server.tftp.due(), Some(Instant::from_secs(4)));
        assert_eq!(server.read("exact octet blksize 0 windowsize 4")[..4], [0, 3, 0, 1]);
    }

    #[test]
    fn what_is_not_served_is_said() {
        let mut server = Server::new();
        let refusals = [
            ("none octet", 1),
            ("exact/x octet", 1),
            ("../secret octet", 1),
            ("out octet", 1),
            ("sub octet", 2),
            ("exact mail", 4),
            (" octet", 4),
            ("exact", 4),
        ];
        for (words, code) in refusals {
            assert_eq!(server.read(words)[..4], [0, 5, 0, code], "{words}");
        }
        assert_eq!(server.say(WRITE, b"new\0octet\0").expect("no")[..4], [0, 5, 0, 2]);
        assert_eq!(server.say(9, b"").expect("no")[..4], [0, 5, 0, 4]);
        assert_eq!(server.say(ACK, &[0, 1]).expect("no")[..4], [0, 5, 0, 5]);
        assert_eq!((server.say(ERROR, &[0, 0, 0]), server.say(ACK, &[])), (None, None));
    }

    #[test]
    fn a_lost_block_is_sent_again_for_a_while() {
        let mut server = Server::new();
        let first = server.read("exact octet");
        let second = server.say(ACK, &[0, 1]).expect("the second block");
        assert_eq!(server.say(ACK, &[0, 1]), None, "no block goes twice");
        assert!(server.tftp.overdue(server.now).is_empty());
        for _ in 0..TRIES {
            server.now += TIMEOUT;
            let again = server.tftp.overdue(server.now);
            assert_eq!(again, [(server.key.far.ip(), server.key.guest, second.clone())]);
        }
        assert_ne!(first, second);
        server.now += TIMEOUT;
        assert!(server.tftp.overdue(server.now).is_empty());
        assert_eq!(server.tftp.due(), None);
    }

    #[test]
    fn who_is_silent_makes_room() {
        let mut server = Server::new();
        for port in 1..=200 {
            server.key.guest.set_port(port);
            server.now += Duration::from_micros(1);
            server.read("exact octet");
        }
        assert_eq!(server.tftp.transfers.len(), MOST);
        assert!(server.say(ACK, &[0, 1]).is_some_and(|packet| packet.len() == 516));
    }
}
