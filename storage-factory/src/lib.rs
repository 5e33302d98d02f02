//! Agent storage chosen by environment variables, with no change of code.
