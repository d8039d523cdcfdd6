//! The machine that runs a checked program.

use super::{
    Packet, WORDS,
    instruction::{Instruction, Operand, Operation, Size},
};

/// `SKF_AD_OFF`: from here on absolute loads take what is known about the packet.
pub(super) const ANCILLARY: u32 = 0xffff_f000;
/// `SKF_NET_OFF` and `SKF_LL_OFF`: loads relative to the network's and to the link's header.
const NETWORK: u32 = 0xfff0_0000;
const LINK: u32 = 0xffe0_0000;

/// What absolute loads beyond [`ANCILLARY`] take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ancillary {
    Protocol,
    PktType,
    IfIndex,
    NetlinkAttribute,
    NestedAttribute,
    /// Nothing that is known here: marks, queues, hashes, processors.
    Zero,
    HaType,
    XorX,
    VlanTag,
    HasVlanTag,
    PayloadOffset,
    Random,
    VlanProtocol,
}

impl Ancillary {
    pub(super) fn of(k: u32) -> Option<Self> {
        Some(match k.checked_sub(ANCILLARY)? {
            0 => Self::Protocol,
            4 => Self::PktType,
            8 => Self::IfIndex,
            12 => Self::NetlinkAttribute,
            16 => Self::NestedAttribute,
            20 | 24 | 32 | 36 => Self::Zero,
            28 => Self::HaType,
            40 => Self::XorX,
            44 => Self::VlanTag,
            48 => Self::HasVlanTag,
            52 => Self::PayloadOffset,
            56 => Self::Random,
            60 => Self::VlanProtocol,
            _ => return None,
        })
    }
}

struct Machine<'a> {
    packet: &'a Packet<'a>,
    a: u32,
    x: u32,
    memory: [u32; WORDS],
}

/// Runs a program; how many bytes it lets through. A load from outside the packet lets none.
pub(super) fn run(code: &[Instruction], packet: &Packet<'_>) -> u32 {
    let mut machine = Machine { packet, a: 0, x: 0, memory: [0; WORDS] };
    machine.run(code).unwrap_or(0)
}

impl Machine<'_> {
    fn run(&mut self, code: &[Instruction]) -> Option<u32> {
        let mut at = 0;
        loop {
            let instruction = code.get(at)?;
            at += 1;
            match instruction.decoded()? {
                Operation::Return => return Some(instruction.k),
                Operation::ReturnA => return Some(self.a),
                Operation::Jump => at += usize::try_from(instruction.k).ok()?,
                Operation::Branch(test, operand) => {
                    let holds = test.holds(self.a, self.operand(operand, instruction.k));
                    let way = if holds { instruction.jump_true } else { instruction.jump_false };
                    at += usize::from(way);
                }
                other => self.step(other, instruction.k)?,
            }
        }
    }

    fn operand(&self, operand: Operand, k: u32) -> u32 {
        match operand {
            Operand::K => k,
            Operand::X => self.x,
        }
    }

    fn step(&mut self, operation: Operation, k: u32) -> Option<()> {
        match operation {
            Operation::Load(value) => self.a = value,
            Operation::LoadX(value) => self.x = value,
            Operation::Absolute(size) => {
                self.a = match Ancillary::of(k) {
                    Some(ancillary) => self.ancillary(ancillary),
                    None => self.load(k, size)?,
                }
            }
            Operation::Indirect(size) => self.a = self.load(self.x.wrapping_add(k), size)?,
            Operation::LoadMemory => self.a = *self.word(k)?,
            Operation::LoadXMemory => self.x = *self.word(k)?,
            Operation::LoadLength => self.a = self.length(),
            Operation::LoadXLength => self.x = self.length(),
            Operation::LoadXHeader => self.x = (self.load(k, Size::Byte)? & 0xf) * 4,
            Operation::Store => *self.word(k)? = self.a,
            Operation::StoreX => *self.word(k)? = self.x,
            Operation::Compute(compute, operand) => {
                self.a = compute.apply(self.a, self.operand(operand, k))?;
            }
            Operation::Negate => self.a = self.a.wrapping_neg(),
            Operation::TakeX => self.x = self.a,
            Operation::TakeA => self.a = self.x,
            Operation::Jump | Operation::Branch(..) | Operation::Return | Operation::ReturnA => {}
        }
        Some(())
    }

    fn word(&mut self, k: u32) -> Option<&mut u32> {
        self.memory.get_mut(usize::try_from(k).ok()?)
    }

    /// What follows offset 0.
    fn data(&self) -> &[u8] {
        self.packet.bytes.get(self.packet.start..).unwrap_or_default()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.data().len()).unwrap_or(u32::MAX)
    }

    /// A number of the packet, in network order; None outside of it.
    fn load(&self, offset: u32, size: Size) -> Option<u32> {
        let packet = self.packet;
        let (base, offset) = match offset {
            NETWORK.. => (packet.network, offset - NETWORK),
            LINK.. if packet.has_link => (0, offset - LINK),
            0x8000_0000.. => return None,
            _ => (packet.start, offset),
        };
        let from = packet.bytes.get(base.checked_add(usize::try_from(offset).ok()?)?..)?;
        Some(match size {
            Size::Word => u32::from_be_bytes(*from.first_chunk()?),
            Size::Half => u32::from(u16::from_be_bytes(*from.first_chunk()?)),
            Size::Byte => u32::from(*from.first()?),
        })
    }

    fn ancillary(&self, ancillary: Ancillary) -> u32 {
        let packet = self.packet;
        match ancillary {
            Ancillary::Protocol => u32::from(packet.protocol),
            Ancillary::PktType => u32::from(packet.pkttype),
            Ancillary::IfIndex => packet.ifindex,
            Ancillary::HaType => u32::from(packet.hatype),
            Ancillary::Zero => 0,
            Ancillary::XorX => self.a ^ self.x,
            Ancillary::VlanTag => packet.vlan.map_or(0, |(tag, _)| u32::from(tag)),
            Ancillary::HasVlanTag => u32::from(packet.vlan.is_some()),
            Ancillary::VlanProtocol => packet.vlan.map_or(0, |(_, kind)| u32::from(kind)),
            Ancillary::Random => packet.random,
            Ancillary::PayloadOffset => self.payload_offset().unwrap_or(0),
            Ancillary::NetlinkAttribute => self.attribute(self.a, self.length()).unwrap_or(0),
            Ancillary::NestedAttribute => self.nested().unwrap_or(0),
        }
    }

    /// Where the payload of TCP, UDP and ICMP begins, from offset 0 on.
    fn payload_offset(&self) -> Option<u32> {
        let ip = self.packet.bytes.get(self.packet.network..)?;
        let (protocol, transport) = match self.packet.protocol {
            0x0800 => (*ip.get(9)?, usize::from(*ip.first()? & 0xf) * 4),
            0x86dd => (*ip.get(6)?, 40),
            _ => return None,
        };
        let header = match i32::from(protocol) {
            libc::IPPROTO_TCP => usize::from(*ip.get(transport + 12)? >> 4).max(5) * 4,
            libc::IPPROTO_UDP | libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => 8,
            _ => 0,
        };
        let from_start = self.packet.network.checked_sub(self.packet.start)?;
        u32::try_from(from_start + transport + header).ok()
    }

    /// Where the netlink attribute of type X is, looked for from `from` to `end`.
    fn attribute(&self, from: u32, end: u32) -> Option<u32> {
        let data = self.data().get(..usize::try_from(end).ok()?)?;
        let mut at = usize::try_from(from).ok()?;
        loop {
            let head: &[u8; 4] = data.get(at..)?.first_chunk()?;
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            if length < 4 || at + length > data.len() {
                return None;
            }
            // NLA_TYPE_MASK.
            if u32::from(u16::from_ne_bytes([head[2], head[3]]) & 0x3fff) == self.x {
                return u32::try_from(at).ok();
            }
            at += length.next_multiple_of(4);
        }
    }

    /// The same within the attribute at A.
    fn nested(&self) -> Option<u32> {
        let at = usize::try_from(self.a).ok()?;
        let head: &[u8; 2] = self.data().get(at..)?.first_chunk()?;
        let end = self.a.checked_add(u32::from(u16::from_ne_bytes(*head)))?;
        if end > self.length() {
            return None;
        }
        self.attribute(self.a.checked_add(4)?, end)
    }
}
