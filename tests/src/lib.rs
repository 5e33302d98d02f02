//! Cross-crate tests on real servers live under `tests/`.
