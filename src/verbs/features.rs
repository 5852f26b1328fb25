//! `features`: what this build supports.

use crate::report;
use wharf_core::Result;

pub(super) fn features() -> Result<()> {
    report::print(&report::features()?)
}
