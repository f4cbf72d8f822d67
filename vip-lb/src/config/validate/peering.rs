//! `node.peering`: who speaks with whom.

use super::{
    super::{
        model::{DEFAULT_PEERING_PORT, Peering, Share},
        raw::{RawNode, RawPeering},
    },
    Validator, address,
};

impl<'a> Validator<'a> {
    /// Nothing but the file's own mistakes can be found here: the secret is read by the daemon.
    pub(super) fn peering(&mut self, raw: &'a RawNode) -> Option<Option<Peering>> {
        let Some(peering) = raw.peering.given() else {
            // What is wrong has been noted.
            return (!raw.peering.is_present()).then_some(None);
        };
        let (place, peering) = (&peering.place, &peering.value);
        let peers = raw.peers.value().map_or(&[][..], Vec::as_slice);
        if peers.is_empty() && (raw.peers.given().is_some() || !raw.peers.is_present()) {
            self.issues.error(
                place,
                "no `peers` of this node".to_owned(),
                "the addresses of the other nodes in `node.peers`",
            );
        }
        for peer in peers.iter().filter(|peer| address::needs_interface(peer.value)) {
            let found = format!("{}, a link-local address", peer.value);
            self.issues.error(
                &peer.place,
                found,
                "an address that says by itself where it is, for `node.peering`",
            );
        }
        self.listen(peering);
        Some(Some(Peering {
            secret_file: peering.secret_file.value()?.clone(),
            port: peering.port.or(DEFAULT_PEERING_PORT),
            listen: peering.listen.value().copied(),
            share: match peering.share.value() {
                Some(share) => share.iter().map(|share| share.value).collect(),
                None => Share::ALL.iter().copied().collect(),
            },
        }))
    }

    fn listen(&mut self, peering: &'a RawPeering) {
        let Some(listen) = peering.listen.given() else { return };
        address::check_host(listen.value, &listen.place, "the unicast address of this machine", self.issues);
        self.not_a_vip(listen.value, &listen.place, "an address of this machine alone");
    }
}
