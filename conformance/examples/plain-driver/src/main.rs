//! The `layerstore` command line with this driver: `plain --driver plain info`.

fn main() -> std::process::ExitCode {
    layerstore_cli::run(layerstore_driver::Registry::new().with(plain_driver::Plain))
}
