//! Names the linker scripts, and the log level that holds unless `DEFMT_LOG` says another.

fn main() {
    for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    let level = std::env::var("DEFMT_LOG").unwrap_or_else(|_| "info".into());
    println!("cargo:rustc-env=DEFMT_LOG={level}");
    println!("cargo:rerun-if-env-changed=DEFMT_LOG");
    println!("cargo:rerun-if-changed=build.rs");
}
