//! Prints every clause of the contract with its cases and its saboteur.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(layerstore_conformance::list_text().as_bytes())
}
