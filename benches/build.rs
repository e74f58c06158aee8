//! Builds the SQLite application that the suite `sqlite-source` measures: src/peers/sqlite-load.c with the sqlite3.c that rusqlite
//! bundles, but with the session extension, whose Rust bindings would need libclang.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/peers/sqlite-load.c");
    // Told by the build script of libsqlite3-sys (its `links` key).
    let include =
        PathBuf::from(std::env::var_os("DEP_SQLITE3_INCLUDE").expect("libsqlite3-sys says where its source is"));
    let program = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where")).join("sqlite-load");
    let status = Command::new("cc")
        .args(["-O2", "-DSQLITE_ENABLE_SESSION", "-DSQLITE_ENABLE_PREUPDATE_HOOK", "-DSQLITE_THREADSAFE=0", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(&include)
        .arg("src/peers/sqlite-load.c")
        .arg(include.join("sqlite3.c"))
        .args(["-lm", "-ldl"])
        .status()
        .expect("a C compiler, as rusqlite needs one too");
    assert!(status.success(), "cc fails");
    println!("cargo:rustc-env=SQLITE_LOAD={}", program.display());
}
