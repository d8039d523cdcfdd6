use std::collections::VecDeque;

use nix::unistd::{Gid, Uid};

use super::*;
use crate::switch::{
    fabric::{Fabric, Policy},
    layout::{Endpoint, Guest},
};

/// A switch with a plug in each of the ports 1 to 5, all in VLAN 0.
struct Lab {
    fabric: Fabric,
    plugs: Vec<(Slot, Arc<Port>)>,
}

const ALL: u8 = 0xff;

impl Lab {
    fn new() -> Self {
        let layout = Layout::new(32, false);
        let bridge = Bridge::new(layout, MacTable::new(256, 120, None));
        let mut lab = Self { fabric: Fabric::new(Policy::Bridge(bridge)), plugs: Vec::new() };
        (1..=5).for_each(|number| lab.plug(number));
        lab
    }

    fn plug(&mut self, number: PortNumber) {
        let port = Arc::new(Port::local());
        let endpoint = Endpoint {
            slot: 0,
            id: 0,
            module: "test",
            description: String::new(),
            user: Uid::from_raw(1),
            stream: None,
        };
        let guest = Guest { port: Some(number), endpoint, group: Gid::from_raw(1) };
        let slot = self.fabric.admit(Arc::clone(&port), number, guest);
        self.plugs.push((slot, port));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Layout) -> Result<T, nix::errno::Errno>) -> T {
        let bridge = self.fabric.bridge().expect("a bridge");
        change(&mut bridge.layout.write()).expect("a change that is allowed")
    }

    /// Sends a frame in at a plug (from 1 on); returns what comes out at each: its tag and length.
    fn send(&self, plug: usize, to: u8, tag: Option<u16>) -> Vec<Vec<(Option<u16>, usize)>> {
        let from = u8::try_from(plug).expect("small");
        let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
        if to == ALL {
            bytes[..6].fill(ALL);
        }
        if let Some(tag) = tag {
            bytes.extend([0x81, 0]);
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend([0x88, 0xb5]);
        bytes.resize(60, 0);
        let drops = Drops::default();
        let mut frames = vec![Frame::from(bytes)];
        self.fabric.forward(self.plugs[plug - 1].0, &mut frames, &mut Vec::new(), &drops);
        self.plugs.iter().map(|(_, port)| received(port)).collect()
    }

    /// The plugs, from 1 on, that a frame comes out at.
    fn reached(&self, plug: usize, to: u8, tag: Option<u16>) -> Vec<usize> {
        let out = self.send(plug, to, tag);
        (1..).zip(&out).filter(|(_, frames)| !frames.is_empty()).map(|(n, _)| n).collect()
    }
}

fn received(port: &Port) -> Vec<(Option<u16>, usize)> {
    let mut frames = VecDeque::new();
    port.inbox().expect("local").take(&mut frames, usize::MAX);
    let tag =
        |bytes: &[u8]| (bytes[12..14] == TAG).then(|| u16::from_be_bytes([bytes[14], bytes[15]]));
    frames.iter().map(|frame| (tag(&frame.bytes), frame.bytes.len())).collect()
}

/// Ports 2 and 3 are in VLAN 10, 4 carries 10 and 20 tagged, 5 is in 20 and carries 10.
fn trunks() -> Lab {
    let lab = Lab::new();
    lab.change(|layout| {
        layout.create_vlan(10)?;
        layout.create_vlan(20)?;
        layout.set_vlan(2, 10)?;
        layout.set_vlan(3, 10)?;
        layout.set_vlan(5, 20)?;
        layout.add_tagged(10, 4)?;
        layout.add_tagged(20, 4)?;
        layout.add_tagged(10, 5)
    });
    lab
}

#[test]
fn tags_are_added_and_taken_away_as_ports_want_them() {
    let lab = trunks();
    let none: Vec<(Option<u16>, usize)> = Vec::new();
    let (plain, tagged) = (vec![(None, 60)], vec![(Some(10), 64)]);
    let out = lab.send(2, ALL, None);
    assert_eq!(out, [&none, &none, &plain, &tagged, &tagged].map(Clone::clone));
    let out = lab.send(4, ALL, Some(10 | 5 << 13));
    let stripped = vec![(None, 56)];
    let kept = vec![(Some(10 | 5 << 13), 60)];
    assert_eq!(out, [&none, &stripped, &stripped, &none, &kept].map(Clone::clone));
    assert_eq!(lab.send(4, ALL, Some(20))[4], stripped);
    assert_eq!(lab.send(5, ALL, None)[3], vec![(Some(20), 64)]);
}

#[test]
fn frames_of_a_vlan_that_the_port_is_not_in_are_lost() {
    let lab = trunks();
    assert_eq!(lab.reached(1, ALL, None), [4]);
    assert_eq!(lab.reached(1, ALL, Some(0)), [4], "a priority tag");
    assert_eq!(lab.reached(1, ALL, Some(10)), []);
    assert_eq!(lab.reached(1, ALL, Some(77)), [], "no such VLAN");
    assert_eq!(lab.reached(2, ALL, Some(10)), [3, 4, 5], "its own");
    assert_eq!(lab.reached(2, ALL, Some(0)), []);
    lab.change(|layout| layout.set_vlan(1, crate::switch::layout::NO_VLAN));
    assert_eq!(lab.reached(1, ALL, None), []);
}

#[test]
fn addresses_are_learned_for_each_vlan() {
    let lab = trunks();
    lab.send(4, ALL, Some(10));
    assert_eq!(lab.reached(3, 4, None), [4]);
    assert_eq!(lab.reached(5, 4, None), [4], "flooded: the only other port");
    lab.send(1, ALL, None);
    assert_eq!(lab.reached(3, 1, None), [2, 4, 5], "known in another VLAN only");
    assert_eq!(lab.reached(3, 3, None), [], "to itself");
}

#[test]
fn endpoints_of_one_port_hear_the_same_and_not_each_other() {
    let mut lab = Lab::new();
    lab.plug(2);
    assert_eq!(lab.reached(1, ALL, None), [2, 3, 4, 5, 6]);
    assert_eq!(lab.reached(6, ALL, None), [1, 3, 4, 5]);
    assert_eq!(lab.reached(1, 6, None), [2, 6]);
    lab.fabric.detach(lab.plugs[1].0);
    assert_eq!(lab.reached(1, 6, None), [6], "still there");
    lab.fabric.detach(lab.plugs[5].0);
    assert_eq!(lab.reached(1, 6, None), [3, 4, 5], "forgotten");
}

#[test]
fn what_is_known_is_forgotten_when_it_is_old() {
    let lab = Lab::new();
    let bridge = lab.fabric.bridge().expect("a bridge");
    let endpoints: Vec<_> = lab.plugs.iter().map(|(_, port)| Some(Arc::clone(port))).collect();
    let send = |plug: usize, to: u8, now: u32| {
        let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, u8::try_from(plug).expect("small")];
        bytes.resize(60, 0);
        let mut frames = vec![Frame::from(bytes)];
        bridge.forward(lab.plugs[plug - 1].0, &mut frames, &endpoints, now, &Drops::default());
        lab.plugs.iter().filter(|(_, port)| !received(port).is_empty()).count()
    };
    assert_eq!(send(2, 9, 100), 4);
    assert_eq!(send(1, 2, 220), 1);
    assert_eq!(send(1, 2, 221), 4, "after 120 seconds");
}

#[test]
fn a_hub_passes_everything_as_it_is() {
    let lab = trunks();
    lab.change(|layout| {
        layout.hub = true;
        Ok(())
    });
    assert_eq!(lab.reached(1, 2, Some(77)), [2, 3, 4, 5]);
    assert_eq!(lab.send(2, ALL, Some(10))[0], [(Some(10), 60)]);
}

#[test]
fn ports_count_what_passes() {
    let lab = trunks();
    lab.send(2, ALL, None);
    lab.send(1, ALL, Some(77));
    let bridge = lab.fabric.bridge().expect("a bridge");
    let layout = bridge.layout.read();
    let counts =
        |number: u16| (layout.ports[&number].input.get(), layout.ports[&number].output.get());
    assert_eq!(counts(1), ((1, 60), (0, 0)));
    assert_eq!(counts(2), ((1, 60), (0, 0)));
    assert_eq!(counts(3), ((0, 0), (1, 60)));
    assert_eq!(counts(4), ((0, 0), (1, 64)));
}

#[test]
fn ports_are_chosen_by_number_or_the_first_that_is_free() {
    let mut lab = Lab::new();
    let guest = |port| Guest {
        port,
        endpoint: Endpoint {
            slot: 0,
            id: 0,
            module: "test",
            description: String::new(),
            user: Uid::from_raw(7),
            stream: None,
        },
        group: Gid::from_raw(7),
    };
    use nix::errno::Errno;
    let choose = |lab: &Lab, port| lab.change(|layout| Ok(layout.choose(&guest(port))));
    assert_eq!(choose(&lab, None), Ok(6));
    assert_eq!(choose(&lab, Some(31)), Ok(31));
    assert_eq!(choose(&lab, Some(32)), Err(Errno::EINVAL));
    lab.change(|layout| layout.create(6));
    assert_eq!(choose(&lab, None), Ok(7), "6 is not for those who do not name it");
    assert_eq!(choose(&lab, Some(6)), Ok(6));
    lab.change(|layout| {
        layout.port_mut(6)?.user = Some(Uid::from_raw(8));
        layout.set_limit(7)
    });
    assert_eq!(choose(&lab, Some(6)), Err(Errno::EACCES));
    assert_eq!(choose(&lab, None), Err(Errno::ENOSPC));
    lab.fabric.detach(lab.plugs.remove(0).0);
    assert_eq!(choose(&lab, None), Ok(1));
    lab.change(|layout| layout.port_mut(6).map(|port| port.group = Some(Gid::from_raw(7))));
    assert_eq!(choose(&lab, Some(6)), Ok(6));
}

#[test]
fn impossible_changes_are_refused_as_vde_switch_does() {
    use nix::errno::Errno::{EADDRINUSE, EEXIST, EINVAL, ENXIO};
    let mut layout = Layout::new(32, false);
    layout.create(1).expect("a port");
    assert_eq!(layout.create(1), Err(EEXIST));
    assert_eq!([0, 32].map(|n| layout.create(n)), [Err(EINVAL); 2]);
    assert_eq!([0, 4094, 4095, 5000].map(|v| layout.create_vlan(v)), [Err(EINVAL); 4]);
    layout.create_vlan(10).expect("a VLAN");
    assert_eq!(layout.create_vlan(10), Err(EEXIST));
    assert_eq!(layout.set_vlan(1, 20), Err(ENXIO));
    assert_eq!(layout.set_vlan(1, 4096), Err(EINVAL));
    assert_eq!(layout.set_vlan(2, 10), Err(ENXIO));
    assert_eq!(layout.add_tagged(20, 1), Err(ENXIO));
    layout.add_tagged(10, 1).expect("a member");
    assert_eq!(layout.remove_vlan(10), Err(EADDRINUSE));
    layout.set_vlan(1, 10).expect("a member");
    assert!(layout.vlans[&10].is_empty(), "untagged now");
    assert_eq!(layout.delete_tagged(10, 1), Err(EADDRINUSE));
    layout.set_vlan(1, 4095).expect("no VLAN");
    assert_eq!(layout.remove_vlan(10), Ok(()));
    assert_eq!(layout.remove_vlan(10), Err(ENXIO));
    assert_eq!(layout.remove_vlan(0), Err(EINVAL));
    assert_eq!(layout.set_limit(1), Err(EADDRINUSE));
    assert_eq!(layout.set_limit(0), Err(EINVAL));
    assert_eq!(layout.remove(1), Ok(()));
    assert_eq!(layout.remove(1), Err(ENXIO));
}
