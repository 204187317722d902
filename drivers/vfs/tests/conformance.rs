//! The conformance suite, run on this driver.

layerstore_conformance::suite!(layerstore_vfs::Vfs);
