//! The conformance suite, run on this driver.

layerstore_conformance::suite!(layerstore_overlay2::Overlay2);
