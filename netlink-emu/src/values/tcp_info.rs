//! What `TCP_INFO` and `ss -i` tell of a TCP connection (tcp(7), `linux/tcp.h`).

/// Corresponds to `struct tcp_info`; times in microseconds where nothing else is said, windows in
/// segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpDetails {
    /// The name of the congestion control; not a part of the structure.
    pub control: &'static str,
    /// The state, as `/proc/net/tcp` numbers it.
    pub state: u8,
    /// The state of congestion avoidance: 0 open, 3 recovery, 4 loss.
    pub ca_state: u8,
    /// Timeouts in a row.
    pub retransmits: u8,
    /// Window probes unanswered.
    pub probes: u8,
    /// How often the timeout has doubled.
    pub backoff: u8,
    /// The options in use: 2 SACK, 4 window scaling.
    pub options: u8,
    /// The shift of the windows sent, and of those received.
    pub scales: (u8, u8),
    /// The retransmission timeout.
    pub rto: u32,
    /// The delay of acknowledgements.
    pub ato: u32,
    /// The segment size sent.
    pub send_mss: u32,
    /// The segment size received.
    pub receive_mss: u32,
    /// Segments that are not acknowledged.
    pub unacked: u32,
    /// Of these: arrived out of order.
    pub sacked: u32,
    /// Believed lost.
    pub lost: u32,
    /// Sent again.
    pub retrans: u32,
    /// Milliseconds since data was sent.
    pub last_data_sent: u32,
    /// Milliseconds since data was received.
    pub last_data_received: u32,
    /// Milliseconds since an acknowledgement was received.
    pub last_ack_received: u32,
    /// The longest packet of the path.
    pub pmtu: u32,
    /// Bytes that may be received at most now.
    pub receive_size: u32,
    /// Microseconds of a round trip, as the receiver sees it.
    pub receive_rtt: u32,
    /// Bytes that were read in a round trip.
    pub receive_space: u32,
    /// The smoothed round-trip time.
    pub rtt: u32,
    /// Its variation.
    pub rtt_variation: u32,
    /// The slow-start threshold.
    pub ssthresh: u32,
    /// The congestion window.
    pub cwnd: u32,
    /// How many segments are overtaken at most.
    pub reordering: u32,
    /// Segments retransmitted in all.
    pub retransmitted: u32,
    /// Bytes per second that are sent at most; the greatest number for no limit.
    pub pacing_rate: u64,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Segments sent.
    pub segments_out: u32,
    /// Segments received.
    pub segments_in: u32,
    /// Bytes that were not sent yet.
    pub not_sent: u32,
    /// The least round-trip time.
    pub min_rtt: u32,
    /// Segments with data received.
    pub data_segments_in: u32,
    /// Segments with data sent.
    pub data_segments_out: u32,
    /// Bytes per second, as last measured.
    pub delivery_rate: u64,
    /// Segments delivered.
    pub delivered: u32,
    /// Bytes sent, those sent again included.
    pub bytes_sent: u64,
    /// Bytes sent again.
    pub bytes_retransmitted: u64,
    /// Segments that the peer got twice.
    pub needless: u32,
    /// Whether segments have overtaken each other, as a count.
    pub reordered: u32,
    /// Segments that came beyond a hole.
    pub beyond: u32,
    /// Bytes that the peer has room for.
    pub peer_window: u32,
}

impl TcpDetails {
    /// The structure as the kernel lays it out, up to `tcpi_snd_wnd`.
    pub fn encode(&self) -> Vec<u8> {
        let mut info = vec![
            self.state,
            self.ca_state,
            self.retransmits,
            self.probes,
            self.backoff,
            self.options,
            self.scales.1 & 15 | self.scales.0 << 4,
            0,
        ];
        let mut words = |words: &[u32]| {
            info.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        };
        words(&[self.rto, self.ato, self.send_mss, self.receive_mss, self.unacked, self.sacked]);
        words(&[self.lost, self.retrans, 0, self.last_data_sent, 0, self.last_data_received]);
        words(&[self.last_ack_received, self.pmtu, self.receive_size, self.rtt]);
        words(&[self.rtt_variation, self.ssthresh, self.cwnd, self.send_mss, self.reordering]);
        words(&[self.receive_rtt, self.receive_space, self.retransmitted]);
        let longs = [self.pacing_rate, u64::MAX, self.bytes_acked, self.bytes_received];
        info.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
        let more = [
            self.segments_out,
            self.segments_in,
            self.not_sent,
            self.min_rtt,
            self.data_segments_in,
            self.data_segments_out,
        ];
        info.extend(more.iter().flat_map(|word| word.to_ne_bytes()));
        // Nothing is counted of the times that the connection was busy or limited.
        let longs = [self.delivery_rate, 0, 0, 0];
        info.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
        info.extend([self.delivered, 0].iter().flat_map(|word| word.to_ne_bytes()));
        let longs = [self.bytes_sent, self.bytes_retransmitted];
        info.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
        let last = [self.needless, self.reordered, self.beyond, self.peer_window];
        info.extend(last.iter().flat_map(|word| word.to_ne_bytes()));
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        let details = TcpDetails {
            state: 1,
            scales: (7, 4),
            rto: 200_000,
            lost: 3,
            rtt: 25_000,
            cwnd: 10,
            retransmitted: 9,
            bytes_acked: 1 << 40,
            min_rtt: 24_000,
            delivery_rate: 5_000_000,
            bytes_retransmitted: 77,
            peer_window: 65_536,
            ..TcpDetails::default()
        };
        let bytes = details.encode();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight"));
        assert_eq!((bytes.len(), bytes[0], bytes[6]), (232, 1, 0x74));
        let words = [8, 32, 68, 80, 100, 148, 228].map(word);
        assert_eq!(words, [200_000, 3, 25_000, 10, 9, 24_000, 65_536]);
        assert_eq!([120, 160, 208].map(long), [1 << 40, 5_000_000, 77]);
    }
}
