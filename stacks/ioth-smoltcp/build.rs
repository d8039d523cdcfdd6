//! Links the plugin so that it stays in memory: a thread of it may still be on its way out when a
//! program lets go of its last stack and libioth calls dlclose(3).

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
