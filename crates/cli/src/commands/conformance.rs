//! `conformance`: the suite, run on this machine's drivers.
