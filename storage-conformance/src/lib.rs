//! The agent storage contract as a test suite that any backend can run.
