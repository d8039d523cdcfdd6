//! Queueing disciplines: what `tc qdisc` shows and sets.

use std::{fmt, sync::Arc};

use umvu_abi::IfIndex;

/// The handle of a queueing discipline or class, `MAJOR:MINOR` (`TC_H_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Handle(pub u32);

impl Handle {
    /// None: of the discipline that an interface has by itself; as a parent, none is given.
    pub const NONE: Self = Self(0);
    /// `TC_H_ROOT`, as a parent: what the interface itself sends.
    pub const ROOT: Self = Self(u32::MAX);
    /// `TC_H_INGRESS` (and `TC_H_CLSACT`), as a parent: what an interface receives.
    pub const INGRESS: Self = Self(0xffff_fff1);
    const MAJOR: u32 = 0xffff_0000;

    /// The handle of the discipline that a class belongs to.
    #[must_use]
    pub fn major(self) -> Self {
        Self(self.0 & Self::MAJOR)
    }

    /// The number of the class.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & !Self::MAJOR
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ROOT => f.write_str("root"),
            Self(all) if self.minor() == 0 => write!(f, "{:x}:", all >> 16),
            Self(all) => write!(f, "{:x}:{:x}", all >> 16, self.minor()),
        }
    }
}

/// A queueing discipline of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// The interface.
    pub interface: IfIndex,
    /// Its handle; [`Handle::NONE`] for the one that an interface has by itself.
    pub handle: Handle,
    /// [`Handle::ROOT`], or the class of another discipline.
    pub parent: Handle,
    /// What it does.
    pub discipline: Discipline,
}

impl Qdisc {
    /// Whether `tc qdisc show` leaves it out: the inner queue that a shaper has by itself.
    #[must_use]
    pub fn is_invisible(&self) -> bool {
        self.handle == Handle::NONE && self.parent != Handle::ROOT
    }
}

/// What a queueing discipline does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discipline {
    /// Nothing waits.
    Noqueue,
    /// First in, first out; at most so many packets wait.
    Pfifo(u32),
    /// First in, first out; at most so many bytes wait.
    Bfifo(u32),
    /// Three queues by the priority of packets.
    PfifoFast,
    /// A bad network (`tc-netem(8)`).
    Netem(Box<Netem>),
    /// A token bucket (`tc-tbf(8)`).
    Tbf(Tbf),
}

impl Discipline {
    /// The name of its kind (`TCA_KIND`).
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Noqueue => "noqueue",
            Self::Pfifo(_) => "pfifo",
            Self::Bfifo(_) => "bfifo",
            Self::PfifoFast => "pfifo_fast",
            Self::Netem(_) => "netem",
            Self::Tbf(_) => "tbf",
        }
    }

    /// Whether another discipline may be inside.
    #[must_use]
    pub fn is_classful(&self) -> bool {
        matches!(self, Self::Netem(_) | Self::Tbf(_))
    }
}

/// A probability, of 2^32 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chance {
    /// How probable it is.
    pub probability: u32,
    /// How much it depends on what happened to the packet before.
    pub correlation: u32,
}

/// How `netem` loses packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossModel {
    /// By [`Netem::loss`].
    #[default]
    Random,
    /// A Markov chain of four states: p13, p31, p32, p14, p23.
    Markov([u32; 5]),
    /// The model of Gilbert and Elliott: p, r, 1-h, 1-k.
    Gilbert([u32; 4]),
}

/// `netem`'s rate (`struct tc_netem_rate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetemRate {
    /// Bytes in a second, 0: any.
    pub rate: u64,
    /// Bytes that each packet has on top.
    pub packet_overhead: i32,
    /// The size of cells that packets are cut into, 0: none.
    pub cell_size: u32,
    /// Bytes that each cell has on top.
    pub cell_overhead: i32,
}

/// `netem`'s slots (`struct tc_netem_slot`): packets leave in bursts. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetemSlot {
    /// The shortest and longest time between slots.
    pub delay: (i64, i64),
    /// How many packets a slot has, 0: any.
    pub max_packets: i32,
    /// How many bytes a slot has, 0: any.
    pub max_bytes: i32,
    /// The time between slots, when it has a distribution, and its deviation.
    pub distributed: (i64, i64),
}

/// What `netem` does to packets. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netem {
    /// How long packets take.
    pub latency: i64,
    /// How far around it.
    pub jitter: i64,
    /// How much the delay of a packet depends on that of the one before.
    pub delay_correlation: u32,
    /// How many packets may be under way.
    pub limit: u32,
    /// Losses.
    pub loss: Chance,
    /// How losses depend on each other.
    pub loss_model: LossModel,
    /// Whether packets that can be marked are marked, not lost (RFC 3168).
    pub ecn: bool,
    /// Every so many packets one overtakes, 0: none does.
    pub gap: u32,
    /// Packets that are not delayed.
    pub reorder: Chance,
    /// Packets that come twice.
    pub duplicate: Chance,
    /// Packets with a flipped bit.
    pub corrupt: Chance,
    /// What passes in a second.
    pub rate: NetemRate,
    /// Bursts.
    pub slot: Option<NetemSlot>,
    /// The distribution of delays: multiples of the jitter, of 8192; None: all are equally likely.
    pub distribution: Option<Arc<[i16]>>,
    /// The same of the time between slots.
    pub slot_distribution: Option<Arc<[i16]>>,
    /// The seed of its random numbers; None: any.
    pub seed: Option<u64>,
}

impl Default for Netem {
    fn default() -> Self {
        Self {
            latency: 0,
            jitter: 0,
            delay_correlation: 0,
            limit: 1000,
            loss: Chance::default(),
            loss_model: LossModel::Random,
            ecn: false,
            gap: 0,
            reorder: Chance::default(),
            duplicate: Chance::default(),
            corrupt: Chance::default(),
            rate: NetemRate::default(),
            slot: None,
            distribution: None,
            slot_distribution: None,
            seed: None,
        }
    }
}

/// How fast bytes pass (`struct tc_ratespec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateSpec {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that each packet has on top.
    pub overhead: u16,
    /// The least that a packet counts.
    pub mpu: u16,
    /// How sizes are rounded in tables of `tc`.
    pub cell_log: u8,
    /// How they are aligned in them.
    pub cell_align: i16,
    /// `TC_LINKLAYER_*`.
    pub link_layer: u8,
}

impl RateSpec {
    /// How long so many bytes take, in nanoseconds.
    #[must_use]
    pub fn time(&self, bytes: u64) -> u64 {
        const ATM: u8 = 2;
        let counted = (bytes + u64::from(self.overhead)).max(u64::from(self.mpu));
        let counted = if self.link_layer == ATM { counted.div_ceil(48) * 53 } else { counted };
        let nanos = u128::from(counted) * 1_000_000_000 / u128::from(self.rate.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How many bytes pass in so many nanoseconds.
    #[must_use]
    pub fn bytes(&self, nanos: u64) -> u64 {
        let bytes = u128::from(nanos) * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// A token bucket. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tbf {
    /// How fast it fills.
    pub rate: RateSpec,
    /// Its size, as the time to fill it.
    pub buffer: u64,
    /// The longest packet that passes, in bytes.
    pub max_size: u64,
    /// How many bytes may wait.
    pub limit: u32,
    /// How fast it empties at most.
    pub peak: Option<RateSpec>,
    /// How long the longest packet takes at that speed.
    pub mtu: u64,
}

impl Tbf {
    /// Makes one of the options of a request; None when no packet could pass or the peak is not
    /// above the rate.
    #[must_use]
    pub fn of(options: &TbfOptions) -> Option<Self> {
        const MOST: u64 = u32::MAX as u64;
        let rate = options.rate;
        let (mut max_size, buffer) = match options.burst {
            Some(burst) => (u64::from(burst), rate.time(burst.into())),
            None => (rate.bytes(options.buffer).min(MOST), options.buffer.min(MOST)),
        };
        let mut mtu = options.mtu.min(MOST);
        if let Some(peak) = options.peak {
            if peak.rate <= rate.rate {
                return None;
            }
            if let Some(burst) = options.peak_burst {
                max_size = max_size.min(burst.into());
                mtu = peak.time(burst.into());
            } else {
                max_size = max_size.min(peak.bytes(mtu));
            }
        }
        let (limit, peak) = (options.limit, options.peak);
        (max_size > 0).then_some(Self { rate, buffer, max_size, limit, peak, mtu })
    }
}

/// What a queueing discipline has done (`struct gnet_stats_basic` and `gnet_stats_queue`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QdiscStats {
    /// Bytes that have passed.
    pub bytes: u64,
    /// Packets that have passed.
    pub packets: u64,
    /// Packets that wait.
    pub queued: u32,
    /// Bytes that wait.
    pub backlog: u32,
    /// Packets that were dropped.
    pub drops: u32,
    /// Packets that were put back.
    pub requeues: u32,
    /// How often a packet had to wait for its time.
    pub overlimits: u32,
}

/// The options of a request; what is None stays as it is, or as it is by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QdiscOptions {
    /// None were given.
    #[default]
    None,
    /// The length of a queue.
    Limit(u32),
    /// Of `netem`.
    Netem(Box<NetemOptions>),
    /// Of `tbf`.
    Tbf(TbfOptions),
    /// There are some that no discipline can have.
    Malformed,
}

/// The options of `tbf` in a request. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TbfOptions {
    /// How fast it fills.
    pub rate: RateSpec,
    /// How fast it empties at most.
    pub peak: Option<RateSpec>,
    /// How many bytes may wait.
    pub limit: u32,
    /// Its size, as the time to fill it.
    pub buffer: u64,
    /// How long the longest packet takes at the peak rate.
    pub mtu: u64,
    /// Its size in bytes, which counts instead.
    pub burst: Option<u32>,
    /// The longest packet in bytes, which counts instead.
    pub peak_burst: Option<u32>,
}

/// The options of `netem` in a request. The plain ones are always given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "those of Netem")]
pub struct NetemOptions {
    pub latency: i64,
    pub jitter: i64,
    pub limit: u32,
    pub gap: u32,
    pub loss: u32,
    pub duplicate: u32,
    /// Those of delays, losses and duplicates.
    pub correlations: Option<[u32; 3]>,
    pub loss_model: LossModel,
    pub ecn: Option<bool>,
    pub reorder: Option<Chance>,
    pub corrupt: Option<Chance>,
    pub rate: Option<NetemRate>,
    pub slot: Option<NetemSlot>,
    pub distribution: Option<Arc<[i16]>>,
    pub slot_distribution: Option<Arc<[i16]>>,
    pub seed: Option<u64>,
}

impl Netem {
    /// Takes over the options of a request.
    pub fn apply(&mut self, options: &NetemOptions) {
        (self.latency, self.jitter, self.limit) = (options.latency, options.jitter, options.limit);
        self.loss.probability = options.loss;
        self.duplicate.probability = options.duplicate;
        self.loss_model = options.loss_model;
        self.gap = options.gap;
        if self.gap != 0 {
            self.reorder.probability = u32::MAX;
        }
        if let Some([delay, loss, duplicate]) = options.correlations {
            self.delay_correlation = delay;
            self.loss.correlation = loss;
            self.duplicate.correlation = duplicate;
        }
        self.ecn = options.ecn.unwrap_or(self.ecn);
        self.reorder = options.reorder.unwrap_or(self.reorder);
        self.corrupt = options.corrupt.unwrap_or(self.corrupt);
        self.rate = options.rate.unwrap_or(self.rate);
        self.slot = options.slot.or(self.slot);
        self.seed = options.seed.or(self.seed);
        let table = |new: &Option<Arc<[i16]>>, old: &Option<Arc<[i16]>>| {
            new.as_ref().or(old.as_ref()).map(Arc::clone)
        };
        self.distribution = table(&options.distribution, &self.distribution);
        self.slot_distribution = table(&options.slot_distribution, &self.slot_distribution);
    }
}

/// What a request about queueing disciplines says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdiscRequest {
    /// The interface.
    pub interface: IfIndex,
    /// The handle, [`Handle::NONE`] for any.
    pub handle: Handle,
    /// The parent, [`Handle::NONE`] for any.
    pub parent: Handle,
    /// The kind, if it was named.
    pub kind: Option<String>,
    /// The options.
    pub options: QdiscOptions,
    /// `NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_REPLACE`.
    pub mode: super::RouteMode,
}
