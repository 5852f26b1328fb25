//! Says to the kernel exactly what it is told, and returns its errno.
