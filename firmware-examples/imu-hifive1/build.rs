//! Names the linker scripts.

fn main() {
    for argument in ["-Tmemory.x", "-Tlink.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
