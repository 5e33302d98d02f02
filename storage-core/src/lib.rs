//! The storage contract for agents: traits, keys, globs, errors, the in-memory backend and the ad-domain helpers.
