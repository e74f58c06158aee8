//! The header and its mirror in Rust are the same thing, and the header is C and C++.

use std::mem::offset_of;
use std::process::Command;

use rlog::plugin::abi;

use crate::common::{repository, scratch};

macro_rules! rows {
    ($($c:literal $rust:ty { $($member:ident $(= $c_member:literal)?,)* })*) => {{
        let mut source = String::from("#include <stdio.h>\n#include <rlog_plugin.h>\nint main(void) {\n");
        let mut wanted = String::new();
        $(
            source += &format!("printf(\"{0} %zu\\n\", sizeof({0}));\n", $c);
            wanted += &format!("{} {}\n", $c, size_of::<$rust>());
            $(
                #[allow(unused_mut, unused_assignments)]
                let mut member = stringify!($member);
                $(member = $c_member;)?
                source += &format!("printf(\"{0}.{1} %zu\\n\", offsetof({0}, {1}));\n", $c, member);
                wanted += &format!("{}.{} {}\n", $c, member, offset_of!($rust, $member));
            )*
        )*
        source += "return 0;\n}\n";
        (source, wanted)
    }};
}

#[test]
fn the_mirror_has_the_layout_of_the_header() {
    let (source, wanted) = rows! {
        "rlog_text" abi::Text { data, length, }
        "rlog_value" abi::Value { kind = "type", detail, number, data, length, }
        "rlog_column" abi::Column { struct_size, name, sql_type, charset, flags, reserved, }
        "rlog_channel" abi::Channel { struct_size, tool, name, position, }
        "rlog_transaction" abi::Transaction { struct_size, txid, incarnation, position, gtid, time_us, server_id, thread, flags, }
        "rlog_statement" abi::Statement { struct_size, operation, reserved, database, table, sql, ddl, rows, ordinal, table_id, }
        "rlog_row" abi::Row { struct_size, operation, images, ordinal, columns, }
        "rlog_event" abi::Event { struct_size, kind, status, channel, transaction, statement, row, error, }
        "rlog_host" abi::Host { struct_size, abi_version, reserved, allocate, release, listen, unlisten, log, set_error, column, values, set_value, text, }
        "rlog_plugin_descriptor" abi::Descriptor { struct_size, abi_version, flags, name, version, start, stop, }
    };
    let folder = scratch();
    for (name, compiler, flags) in
        [("layout.c", "cc", ["-std=c11", "-pedantic"]), ("layout.cc", "c++", ["-std=c++11", "-pedantic"])]
    {
        let (file, program) = (folder.path().join(name), folder.path().join("layout"));
        std::fs::write(&file, &source).unwrap();
        let mut build = Command::new(compiler);
        build.args(flags).args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(repository().join("include"));
        let Ok(built) = build.arg("-o").arg(&program).arg(&file).output() else {
            // A machine need not have a C++ compiler; C is needed to build rlog.
            assert_eq!(compiler, "c++");
            continue;
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let output = Command::new(&program).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    }
}

#[test]
fn the_mirror_has_the_numbers_of_the_header() {
    let header = std::fs::read_to_string(repository().join("include/rlog_plugin.h")).unwrap();
    let mirror = std::fs::read_to_string(repository().join("src/plugin/abi.rs")).unwrap();
    let mut compared = 0;
    for line in header.lines().map(str::trim) {
        let Some((name, rest)) = line.split_once(" = ").filter(|(name, _)| name.starts_with("RLOG_")) else { continue };
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        let short = name.trim_start_matches("RLOG_");
        let there = |name: &str| {
            ["u32", "i32"].iter().any(|kind| mirror.contains(&format!("pub const {name}: {kind} = {number};")))
        };
        // Operations are not constants of the mirror.
        let operations =
            ["INSERT", "UPDATE", "DELETE", "STATEMENT", "STATEMENT_DDL", "TRUNCATE", "LOAD_BLOCK", "XA_DECISION"];
        if operations.contains(&short) {
            continue;
        }
        assert!(there(short), "{name} = {number}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}
