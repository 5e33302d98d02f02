//! Typed helpers of the ad domain on top of every backend.
