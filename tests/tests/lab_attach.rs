//! Pinned links: attached, taken over by the next daemon, changed in their mode, and removed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use vip_lb::{
    config::model::AttachMode,
    dataplane::{
        AttachError, Dataplane, DecapOptions, LoadOptions, XdpMode, decapsulate, unload, unload_balancer,
    },
    nat::{self, Ended, NatTables as _},
};
use vip_lb_common::abi::{FlowKey, NatFlow, NatReply, NatReplyKey};
use vip_lb_tests::lab::{Lab, LabOptions, Namespace, Node};

#[test]
fn a_link_is_taken_over_or_replaced_as_the_mode_asks() -> Result<()> {
    let scene = Scene::new()?;
    scene.enter(|| {
        let mut daemon = scene.open("one")?;
        let first = scene.attach(&mut daemon, AttachMode::Auto)?;
        ensure!((first.mode, first.adopted) == (XdpMode::Native, false), "{first:?}");
        drop(daemon);
        ensure!(scene.attached()?.contains(" xdp "), "it stays without a daemon");

        let mut daemon = scene.open("one")?;
        let again = scene.attach(&mut daemon, AttachMode::Native)?;
        ensure!((again.mode, again.adopted) == (XdpMode::Native, true), "{again:?}");

        // The kernel takes no second program, so the first must be gone at once. Both ways, as often as a race needs.
        for _ in 0..5 {
            for (wanted, mode) in
                [(AttachMode::Generic, XdpMode::Generic), (AttachMode::Native, XdpMode::Native)]
            {
                let changed = scene.attach(&mut daemon, wanted)?;
                ensure!((changed.mode, changed.adopted) == (mode, false), "{changed:?}");
            }
        }
        ensure!(daemon.attached() == [Node::DEVICE]);
        daemon.detach(Node::DEVICE)?;
        ensure!(!scene.attached()?.contains("xdp"));
        daemon.detach(Node::DEVICE).context("detach once more")?;
        Ok(())
    })
}

/// The steps of a removal are the kernel's: what they find, take and put back.
#[test]
fn a_translated_connection_is_removed_unless_it_was_touched() -> Result<()> {
    let scene = Scene::new()?;
    scene.enter(|| {
        let dataplane = scene.open("one")?;
        let flow =
            (FlowKey { source_port: 1, ..FlowKey::default() }, NatFlow { seen: 5, ..NatFlow::default() });
        let reply = (NatReplyKey { port: 61_000, ..NatReplyKey::default() }, NatReply::default());
        let touched = NatReply { seen: 6, ..reply.1 };
        ensure!(dataplane.put_flow(&flow.0, &flow.1)? && dataplane.put_reply(&reply.0, &touched)?);
        ensure!(!dataplane.put_flow(&flow.0, &NatFlow::default())?, "nothing is replaced");
        ensure!(!nat::remove(&dataplane, &Ended::Whole { flow, reply })?, "a packet came by");
        ensure!(!nat::remove(&dataplane, &Ended::Reply(reply.0, reply.1))?);
        ensure!(dataplane.nat_flows()? == [flow] && dataplane.nat_replies()? == [(reply.0, touched)]);
        ensure!(nat::remove(&dataplane, &Ended::Whole { flow, reply: (reply.0, touched) })?);
        ensure!(dataplane.nat_flows()?.is_empty() && dataplane.nat_replies()?.is_empty());
        ensure!(dataplane.take_flow(&flow.0)?.is_none() && dataplane.reply(&reply.0)?.is_none());
        let capacities = dataplane.capacities()?;
        ensure!(capacities.nat == 64, "{capacities:?}");
        Ok(())
    })
}

#[test]
fn a_program_of_somebody_else_is_left_alone() -> Result<()> {
    let scene = Scene::new()?;
    scene.enter(|| {
        let mut theirs = scene.open("theirs")?;
        scene.attach(&mut theirs, AttachMode::Auto)?;
        let mut ours = scene.open("ours")?;
        for wanted in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
            let refused = ours.attach(Node::DEVICE, scene.index(Node::DEVICE)?, wanted);
            ensure!(matches!(refused, Err(AttachError::Busy { .. })), "{wanted:?}: {refused:?}");
        }
        ensure!(unload(&scene.pins("ours"))? == Some(Vec::new()));
        ensure!(scene.attached()?.contains(" xdp "));
        ensure!(unload(&scene.pins("theirs"))? == Some(vec![Node::DEVICE.to_owned()]));
        ensure!(!scene.attached()?.contains("xdp"), "detached though a daemon has it open");
        ensure!(unload(&scene.pins("theirs"))?.is_none());
        Ok(())
    })
}

/// Frames larger than a page lie in several buffers, which native mode takes from programs that say they can (`xdp.frags`).
#[test]
fn an_interface_with_jumbo_frames_is_attached_to_natively() -> Result<()> {
    let scene = Scene::new()?;
    scene.make("big", "big-far", &[], &[])?;
    for device in ["big", "big-far"] {
        scene.edge().ip(&["link", "set", device, "mtu", "9000"])?;
    }
    scene.enter(|| {
        let mut daemon = scene.open("one")?;
        let attached = daemon.attach("big", scene.index("big")?, AttachMode::Native)?;
        ensure!((attached.mode, attached.fallback_reason.clone()) == (XdpMode::Native, None), "{attached:?}");
        Ok(())
    })
}

/// A veth takes a program only with a receive queue for each that its peer sends by.
#[test]
fn a_driver_that_refuses_is_explained_and_auto_falls_back() -> Result<()> {
    let scene = Scene::new()?;
    scene.make("few", "many", &["numrxqueues", "1"], &["numtxqueues", "2"])?;
    scene.edge().run("ethtool", &["-L", "many", "tx", "2"])?;
    scene.enter(|| {
        let mut daemon = scene.open("one")?;
        let index = scene.index("few")?;
        let refused = daemon.attach("few", index, AttachMode::Native);
        let Err(AttachError::Refused { interface, mode: "native", reason }) = &refused else {
            anyhow::bail!("not refused: {refused:?}");
        };
        ensure!(interface == "few" && reason.contains("as many receive queues as its peer"), "{reason}");
        ensure!(
            !scene.edge().ip(&["link", "show", "few"])?.contains("xdp"),
            "a refusal leaves nothing behind"
        );

        let fallen = daemon.attach("few", index, AttachMode::Auto)?;
        ensure!(fallen.mode == XdpMode::Generic, "{fallen:?}");
        ensure!(fallen.fallback_reason.as_ref() == Some(reason), "{fallen:?}");
        Ok(())
    })
}

#[test]
fn the_balancer_goes_alone_and_everything_goes_together() -> Result<()> {
    let scene = Scene::new()?;
    scene.enter(|| {
        let namespace = &scene.lab.edges[0].namespace;
        namespace.ip(&["link", "add", "eth1.7", "type", "veth", "peer", "name", "far"])?;
        let pins = scene.pins("one");
        let decap = DecapOptions {
            gue_port: 6080,
            interface: "eth1.7".to_owned(),
            index: scene.index("eth1.7")?,
            from: vec![("10.77.0.0".parse()?, 24)],
            vips: vec!["10.77.1.1".parse()?],
            pins: pins.clone(),
        };
        decapsulate(&decap)?;
        ensure!(unload_balancer(&pins)?.is_none(), "there is none yet");
        let balancer = || -> Result<()> {
            let mut daemon = scene.open("one")?;
            scene.attach(&mut daemon, AttachMode::Auto).map(drop)
        };
        balancer()?;
        ensure!(unload_balancer(&pins)? == Some(vec![Node::DEVICE.to_owned()]));
        ensure!(!scene.attached()?.contains("xdp"));
        let decapsulates =
            || -> Result<bool> { Ok(namespace.ip(&["link", "show", "eth1.7"])?.contains(" xdp ")) };
        ensure!(decapsulates()?);

        balancer()?;
        let both = vec![Node::DEVICE.to_owned(), "eth1.7".to_owned()];
        ensure!(unload(&pins)? == Some(both));
        ensure!(!scene.attached()?.contains("xdp") && !decapsulates()?);
        ensure!(!pins.exists());
        Ok(())
    })
}

/// An edge node whose pins are removed with it.
struct Scene {
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new(&LabOptions { edges: 1, ..LabOptions::default() })?;
        Ok(Self { lab })
    }

    fn enter(&self, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        self.lab.edges[0].namespace.enter(work)?
    }

    fn edge(&self) -> &Namespace {
        &self.lab.edges[0].namespace
    }

    /// A veth pair with both ends in the edge's namespace, gone with it.
    fn make(&self, near: &str, far: &str, near_options: &[&str], far_options: &[&str]) -> Result<()> {
        let words =
            [&["link", "add", near][..], near_options, &["type", "veth", "peer", "name", far], far_options]
                .concat();
        self.edge().ip(&words).map(drop)
    }

    fn pins(&self, name: &str) -> PathBuf {
        Path::new("/sys/fs/bpf").join(format!("{}-{name}", self.lab.scratch.name()))
    }

    fn open(&self, name: &str) -> Result<Dataplane> {
        let options = LoadOptions {
            pins: self.pins(name),
            flows: 64,
            newborn: 64,
            survivors: 64,
            nat: 64,
            fragments: 64,
        };
        Dataplane::open(&options)
    }

    fn index(&self, interface: &str) -> Result<u32> {
        let namespace = &self.lab.edges[0].namespace;
        let shown = namespace.ip(&["-o", "link", "show", interface])?;
        Ok(shown.split(':').next().context("an index")?.parse()?)
    }

    fn attach(&self, daemon: &mut Dataplane, wanted: AttachMode) -> Result<vip_lb::dataplane::Attachment> {
        Ok(daemon.attach(Node::DEVICE, self.index(Node::DEVICE)?, wanted)?)
    }

    fn attached(&self) -> Result<String> {
        self.lab.edges[0].namespace.ip(&["link", "show", Node::DEVICE])
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for name in ["one", "ours", "theirs"] {
            if let Err(error) = unload(&self.pins(name)) {
                eprintln!("{error}");
            }
        }
    }
}
