//! The decapsulator's view of the maps.

use vip_lb_common::{abi::Address, decap::DecapTables};

use super::{DECAP_VIPS, SETTINGS, source_allowed};

/// The decapsulator's maps.
pub(crate) struct DecapMaps;

impl DecapTables for DecapMaps {
    #[inline(always)]
    fn source_allowed(&self, source: &Address) -> bool {
        source_allowed(source)
    }

    #[inline(always)]
    fn destination_allowed(&self, destination: &Address) -> bool {
        // SAFETY: only the presence matters.
        unsafe { DECAP_VIPS.get(destination) }.is_some()
    }

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        SETTINGS.get(0).map_or(0, |settings| settings.gue_port)
    }
}
