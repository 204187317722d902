//! The whole conformance suite, on this driver.

layerstore_conformance::suite!(plain_driver::Plain);
