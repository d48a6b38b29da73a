//! What can go wrong: a kind and, where one exists, an errno.
use rustix::io::Errno;
use std::io;

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// The operating system; it gave an errno.
    System = 1,
    /// cap-std: the path leads outside of the mount. It has no errno.
    Escape = 2,
    /// The rights of the mount, or the kind of the file.
    Denied = 3,
    /// A limit of this file system.
    Limit = 4,
    /// The arguments.
    Invalid = 5,
    /// A panic in this crate, caught at the boundary of the C interface.
    Panic = 6,
}

/// The error of every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Who refused.
    pub kind: Kind,
    /// The errno, or 0 where none exists.
    pub errno: i32,
}

/// The result of every operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) const ESCAPE: Error = Error { kind: Kind::Escape, errno: 0 };
    pub(crate) const PANIC: Error = Error { kind: Kind::Panic, errno: 0 };

    pub(crate) fn denied(errno: Errno) -> Error {
        Error { kind: Kind::Denied, errno: errno.raw_os_error() }
    }

    pub(crate) fn limit(errno: Errno) -> Error {
        Error { kind: Kind::Limit, errno: errno.raw_os_error() }
    }

    pub(crate) fn invalid(errno: Errno) -> Error {
        Error { kind: Kind::Invalid, errno: errno.raw_os_error() }
    }

    /// Whether the operating system answered with just this errno.
    pub(crate) fn is(self, errno: Errno) -> bool {
        self.errno == errno.raw_os_error()
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error { kind: Kind::System, errno: errno.raw_os_error() }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => Error { kind: Kind::System, errno },
            // The only error without an errno that cap-std makes itself on Linux.
            (None, io::ErrorKind::PermissionDenied) => Error::ESCAPE,
            (None, io::ErrorKind::InvalidInput) => Error::invalid(Errno::INVAL),
            (None, _) => Error::from(Errno::IO),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Escape => write!(formatter, "the path leads outside of its mount"),
            Kind::Panic => write!(formatter, "internal error"),
            _ => write!(formatter, "{}", io::Error::from_raw_os_error(self.errno)),
        }
    }
}

impl std::error::Error for Error {}
