//! Configuration files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::FileStamp;

pub(super) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // To open a pipe that nobody writes to, or to read one, would stop the loop.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn changed(path: &Path) -> io::Result<FileStamp> {
    let state = fs::metadata(path)?;
    // Before 1970 only by somebody's wish: such times are equal here, and the rest still differs.
    let seconds = u64::try_from(state.ctime()).unwrap_or(0);
    let nanos = u32::try_from(state.ctime_nsec()).unwrap_or(0);
    Ok(FileStamp {
        device: state.dev(),
        inode: state.ino(),
        len: state.len(),
        modified: state.modified()?,
        changed: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos),
    })
}
