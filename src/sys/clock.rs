//! The time of day, of the boot, and as people of this host write it.

use std::mem::MaybeUninit;

/// One moment on the kernel's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Seconds since 1970-01-01.
    pub since_epoch: u64,
    /// Seconds since the boot, those of suspension among them.
    pub since_boot: u64,
    /// How /proc counts (sysconf(3), `_SC_CLK_TCK`).
    pub ticks_per_second: u64,
}

pub fn now() -> Now {
    // SAFETY: plain integers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Now {
        since_epoch: seconds(libc::CLOCK_REALTIME),
        since_boot: seconds(libc::CLOCK_BOOTTIME),
        ticks_per_second: u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100),
    }
}

fn seconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: time is our own variable; a clock that is not there leaves it 0.
    unsafe {
        libc::clock_gettime(clock, &raw mut time);
    }
    u64::try_from(time.tv_sec).unwrap_or(0)
}

/// A point in time in the time zone of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    pub year: i32,
    /// 0 is January.
    pub month: i32,
    pub day: i32,
    pub day_of_year: i32,
    pub hour: i32,
    pub minute: i32,
}

/// `seconds` since 1970-01-01 as localtime_r(3) has them.
pub fn local(seconds: u64) -> Local {
    let time = seconds.try_into().unwrap_or(0);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to our own variables; zeroes are a valid struct tm, so nothing unset is read on failure.
    let parts = unsafe {
        libc::localtime_r(&raw const time, parts.as_mut_ptr());
        parts.assume_init()
    };
    Local {
        year: parts.tm_year + 1900,
        month: parts.tm_mon,
        day: parts.tm_mday,
        day_of_year: parts.tm_yday,
        hour: parts.tm_hour,
        minute: parts.tm_min,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_with_those_of_the_library() {
        let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let now = now();
        assert!(now.since_epoch.abs_diff(own) <= 1 && now.since_boot > 0);
        assert!((2025..3000).contains(&local(own).year));
    }
}
