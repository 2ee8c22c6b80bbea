use std::time::SystemTime;

/// Which state of a file there is: as long as it is equal, the file need not be read again.
///
/// The time of the contents alone would not do. A file that is moved to another's place keeps the
/// time it had; two writes within one step of the file system's clock (4 ms on Linux, up to two
/// seconds elsewhere) have one time; and anybody may set it. The kernel's own time of change, the
/// inode and the length tell these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStamp {
    /// The file system it is on.
    pub device: u64,
    /// Its number there, which a file that takes its place does not have.
    pub inode: u64,
    /// Its length in bytes.
    pub len: u64,
    /// When its contents changed, as anybody may have set it.
    pub modified: SystemTime,
    /// When it was last changed in any way, by the kernel's clock.
    pub changed: SystemTime,
}
