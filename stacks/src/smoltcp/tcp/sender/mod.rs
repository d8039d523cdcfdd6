//! The sending half of a connection: from the guest's bytes to segments, and back from
//! acknowledgements (RFC 9293, 5681, 6298, 6675, 6937, 8985).
//!
//! Theory of operation. smoltcp does the handshake and the states; it never has anything to send,
//! so it believes that nothing but SYN and FIN was ever sent ([`super::engine`]). Here, positions
//! count the bytes after the SYN from 0; the FIN is the one after the last byte.
//!
//! * [`buffer`] holds the bytes, [`board`] what became of each piece that was sent;
//! * [`ack`] takes acknowledgements, [`rack`] finds losses, [`control`] sets the window;
//! * [`output`] decides what is sent next, [`timer`] what happens when nothing comes.
//!
//! Time is an argument; nothing here knows packets.

mod ack;
mod board;
mod buffer;
pub(crate) mod control;
mod output;
mod rack;
mod recovery;
mod rtt;
#[cfg(test)]
mod tests;
mod timer;

use std::io;

use smoltcp::time::{Duration, Instant};

use super::options::Offer;
use board::Board;
use buffer::Buffer;
use control::{Algorithm, Control};
use rack::Rack;
use recovery::{Doubt, Mode};
use rtt::Rtt;
use timer::Timers;

pub(crate) use ack::Said;
pub(crate) use output::{Emit, Shape};

/// The segment size before the peer told one.
const MSS: u64 = 536;

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The sequence number of position 0, once our SYN was sent.
    base: Option<u32>,
    /// What the peer's SYN told, once it came.
    offer: Option<Offer>,
    /// The handshake is complete.
    open: bool,
    buffer: Buffer,
    /// Bytes that the guest has written.
    written: u64,
    /// A FIN follows them.
    ends: bool,
    board: Board,
    /// The first position that is not acknowledged.
    una: u64,
    /// After the last position sent.
    next: u64,
    /// After the last position that the peer has room for.
    edge: u64,
    /// The largest window that the peer has told.
    widest: u64,
    /// The sequence number that the last window came with.
    told: u32,
    /// The next bytes that are written are to be followed by more.
    expects_more: bool,
    /// After the last byte that was: it waits for them as long as nothing follows.
    held: u64,
    /// After the last urgent byte, once there was one.
    urgent: Option<u64>,
    /// The end of the last segment that was not full.
    short: u64,
    /// The segment size in use.
    mss: u64,
    /// Packets leave this machine's memory.
    far: bool,
    /// The round-trip time.
    pub(crate) rtt: Rtt,
    /// Reordering.
    pub(crate) rack: Rack,
    algorithm: Algorithm,
    control: Box<dyn Control>,
    mode: Mode,
    /// By what the last reduction of the window may prove needless.
    doubt: Doubt,
    timers: Timers,
    /// The window was in the way of sending since the last acknowledgement.
    limited: bool,
    /// When something was sent last.
    sent_at: Instant,
    /// When what flies now began to, for the rate of delivery.
    first_at: Instant,
    delivered_at: Instant,
    /// Bytes delivered when the application will no longer have been the limit.
    idle_until: u64,
    /// Acknowledgements in a row that told nothing new, of a peer without SACK.
    duplicates: u32,
    /// What was counted.
    pub(crate) counts: Counts,
}

/// What TCP_INFO tells of the sending half.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Bytes sent, with those sent again.
    pub(crate) sent: u64,
    /// Bytes sent again.
    pub(crate) resent: u64,
    /// Segments sent again.
    pub(crate) retransmits: u32,
    /// Segments with data.
    pub(crate) segments: u32,
    /// Bytes delivered, in order or not.
    pub(crate) delivered: u64,
    /// Bytes acknowledged.
    pub(crate) acknowledged: u64,
    /// Segments that the peer got twice.
    pub(crate) needless: u32,
    /// Timeouts in a row.
    pub(crate) backoff: u32,
    /// Bytes per second, as last measured.
    pub(crate) rate: u64,
}

impl Sender {
    /// Makes the sending half of a connection that begins.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            base: None,
            offer: None,
            open: false,
            buffer: Buffer::default(),
            written: 0,
            ends: false,
            board: Board::default(),
            una: 0,
            next: 0,
            edge: 0,
            widest: 0,
            told: 0,
            expects_more: false,
            held: 0,
            urgent: None,
            short: 0,
            mss: MSS,
            far: true,
            rtt: Rtt::default(),
            rack: Rack::default(),
            algorithm,
            control: algorithm.start(MSS),
            mode: Mode::Open,
            doubt: Doubt::default(),
            timers: Timers::default(),
            limited: false,
            sent_at: Instant::ZERO,
            first_at: Instant::ZERO,
            delivered_at: Instant::ZERO,
            idle_until: 0,
            duplicates: 0,
            counts: Counts::default(),
        }
    }

    /// Notes the number of our SYN.
    pub(crate) fn syn_sent(&mut self, sequence: u32) {
        self.base = Some(sequence.wrapping_add(1));
    }

    /// Notes the peer's SYN.
    pub(crate) fn syn_received(&mut self, offer: Offer) {
        self.offer.get_or_insert(offer);
    }

    /// The handshake is complete: segments of `mss` bytes fit.
    pub(crate) fn start(&mut self, mss: u64) {
        if !self.open {
            self.open = true;
            self.mss = mss;
            self.control = self.algorithm.start(mss);
        }
    }

    /// Whether the handshake is complete.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The name of the congestion control.
    pub(crate) fn control_name(&self) -> &'static str {
        self.algorithm.name()
    }

    /// Chooses another congestion control.
    pub(crate) fn set_algorithm(&mut self, algorithm: Algorithm) {
        if self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.control = algorithm.start(self.mss);
        }
    }

    /// Takes bytes of the guest, at most `most`; returns how many, and how many it was offered.
    pub(crate) fn write(
        &mut self,
        most: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> (io::Result<usize>, usize) {
        let (written, offered) = self.buffer.fill(most, fill);
        self.written += *written.as_ref().unwrap_or(&0) as u64;
        if self.expects_more {
            self.held = self.written;
        }
        (written, offered)
    }

    /// Whether what is written from now on is to be followed by more: what fills no segment then waits
    /// for it, as with `TCP_CORK`.
    pub(crate) fn expect_more(&mut self, more: bool) {
        self.expects_more = more;
    }

    /// What waits for more waits no longer.
    pub(crate) fn push(&mut self) {
        self.held = 0;
    }

    /// The next byte that is written is urgent.
    pub(crate) fn urge(&mut self) {
        self.urgent = Some(self.written + 1);
    }

    /// Whether an urgent byte has not arrived yet.
    fn is_urgent(&self) -> bool {
        self.urgent.is_some_and(|after| after > self.una)
    }

    /// The urgent pointer of a segment that begins at a position: it leads behind the urgent byte, as
    /// everybody has it (RFC 6093).
    pub(crate) fn urgent_pointer(&self, from: u64) -> Option<u16> {
        let ahead = self.urgent?.checked_sub(from).filter(|ahead| *ahead > 0)?;
        u16::try_from(ahead).ok()
    }

    /// The position of the next new byte.
    pub(crate) fn next_position(&self) -> u64 {
        self.next
    }

    /// Copies bytes from a position on that [`Emit::Data`] named.
    pub(crate) fn read(&self, from: u64, out: &mut [u8]) {
        let start = self.written - self.buffer.len() as u64;
        self.buffer.read(usize::try_from(from - start).unwrap_or(usize::MAX), out);
    }

    /// No more will be written.
    pub(crate) fn finish(&mut self) {
        self.ends = true;
    }

    /// Whether the guest has ended it.
    pub(crate) fn ends(&self) -> bool {
        self.ends
    }

    /// Whether the peer has acknowledged the FIN.
    pub(crate) fn is_finished(&self) -> bool {
        self.una > self.written
    }

    /// Bytes that are not acknowledged, sent or not.
    pub(crate) fn queued(&self) -> usize {
        self.buffer.len()
    }

    /// What may be on its way at most, or behind a hole: what both the path and the peer have room
    /// for.
    pub(crate) fn capacity(&self) -> u64 {
        let path = self.control.window() + self.board.sacked;
        path.min(self.edge.saturating_sub(self.una))
    }

    /// How long nothing was sent.
    pub(crate) fn quiet(&self, now: Instant) -> Duration {
        now - self.sent_at
    }

    /// Whether something waits to be sent or acknowledged.
    pub(crate) fn is_busy(&self) -> bool {
        self.una < self.end()
    }

    /// The number by which who knows of SYN and FIN only understands an acknowledgement.
    pub(crate) fn small(&self, said: Said) -> u32 {
        match said {
            Said::Nothing | Said::Data | Said::Ahead => self.sequence(0),
            Said::Fin => self.sequence(1),
        }
    }

    /// Bytes that were never sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.written.saturating_sub(self.next)
    }

    /// The last position, a FIN included.
    fn end(&self) -> u64 {
        self.written + u64::from(self.ends)
    }

    /// The sequence number of a position.
    pub(crate) fn sequence(&self, position: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let low = position as u32;
        self.base.unwrap_or(0).wrapping_add(low)
    }

    /// The number of the next new byte: what a bare acknowledgement carries.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence(self.next)
    }

    /// The first number that is not acknowledged.
    pub(crate) fn una_sequence(&self) -> u32 {
        self.sequence(self.una)
    }

    /// What the peer offered in its SYN.
    pub(crate) fn offer(&self) -> Offer {
        self.offer.unwrap_or_default()
    }

    /// Numbers for TCP_INFO.
    pub(crate) fn state(&self) -> State {
        let mss = self.mss.max(1);
        let repeated =
            self.board.iter().filter(|piece| piece.again > 0 && piece.mark == board::Mark::Flying);
        State {
            mode: self.mode.number(),
            mss: self.mss,
            window: self.window() / mss,
            threshold: Some(self.control.threshold())
                .filter(|bytes| *bytes < control::UNSET)
                .map(|bytes| bytes / mss),
            unacknowledged: (self.next - self.una).div_ceil(mss),
            sacked: self.board.sacked.div_ceil(mss),
            lost: self.board.lost.div_ceil(mss),
            repeated: repeated.map(board::Piece::len).sum::<u64>().div_ceil(mss),
            peer_window: self.edge.saturating_sub(self.una),
            pacing: self.control.pacing(),
            timeout: self.rtt.timeout(self.counts.backoff).total_micros(),
        }
    }
}

/// A moment of the sending half; counts are in segments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct State {
    /// The state of congestion avoidance, as TCP_INFO numbers it.
    pub(crate) mode: u8,
    /// The segment size, in bytes.
    pub(crate) mss: u64,
    /// The congestion window.
    pub(crate) window: u64,
    /// The slow-start threshold, once one was set.
    pub(crate) threshold: Option<u64>,
    /// Sent and not acknowledged; of these arrived out of order, believed lost, sent again.
    pub(crate) unacknowledged: u64,
    pub(crate) sacked: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// The peer's window, in bytes.
    pub(crate) peer_window: u64,
    /// Bytes per second that are sent at most.
    pub(crate) pacing: Option<u64>,
    /// The retransmission timeout, in microseconds.
    pub(crate) timeout: u64,
}
