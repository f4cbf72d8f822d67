//! A network interface of a guest: a virtio device over a TAP of several queues.

use std::process::Command;

/// One interface. The TAP must be there, made with `multi_queue`, and lie in a network namespace by name.
#[derive(Clone, Debug)]
pub struct Nic {
    /// The namespace of the TAP, as under `/run/netns`.
    pub namespace: String,
    /// The TAP's name.
    pub tap: String,
    /// Pairs of queues that the device has. A guest uses one for each processor, and another for each that sends from XDP.
    pub queues: u8,
    /// The guest's address.
    pub mac: [u8; 6],
}

impl Nic {
    /// QEMU with this interface, started inside the namespace, where it finds the TAP. Nothing is left to an offload that XDP would
    /// not see: no segments are merged on the way in, no checksum is missing on the way out.
    pub(super) fn command(&self, qemu: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(qemu).args(self.arguments());
        command
    }

    fn arguments(&self) -> [String; 4] {
        let Self { tap, queues, .. } = self;
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        // One interrupt for each queue, one for the device, one for its control queue.
        let vectors = 2 * u16::from(*queues) + 2;
        let no_offloads = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,csum=off,gso=off";
        [
            "-netdev".to_owned(),
            format!("tap,id=net0,ifname={tap},script=no,downscript=no,queues={queues},vhost=off"),
            "-device".to_owned(),
            // No boot ROM: a guest boots from its own kernel.
            format!("virtio-net-pci,netdev=net0,mac={mac},mq=on,vectors={vectors},romfile=,{no_offloads}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_has_its_queues_and_no_offloads() {
        let mac = [0x52, 0x54, 0, 0, 0, 0xab];
        let nic = Nic { namespace: "switch".to_owned(), tap: "vm".to_owned(), queues: 4, mac };
        let [_, tap, _, device] = nic.arguments();
        assert_eq!(tap, "tap,id=net0,ifname=vm,script=no,downscript=no,queues=4,vhost=off");
        assert!(device.contains("mac=52:54:00:00:00:ab,mq=on,vectors=10,"), "{device}");
        let command = nic.command("qemu");
        assert_eq!(command.get_args().next().unwrap(), "--net=/run/netns/switch");
    }
}
