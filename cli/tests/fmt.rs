//! `rlc fmt` as a user meets it: which files change, what is printed, exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn rlc(folder: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rlc"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may have ended already, for want of reading stdin.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

const UGLY: &str = "advantage=center( reward )#why\r\n";
const NEAT: &str = "advantage = center(reward)  #why\n";

#[test]
fn formats_in_place_and_keeps_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rl");
    std::fs::write(&path, UGLY).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(rlc(folder.path(), &["fmt", "a.rl"], ""), (0, String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), NEAT);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn check_names_what_would_change() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.rl"), UGLY).unwrap();
    std::fs::write(folder.path().join("b.rl"), NEAT).unwrap();
    let (code, out, err) = rlc(folder.path(), &["fmt", "--check", "a.rl", "b.rl"], "");
    assert_eq!((code, out.as_str(), err.as_str()), (1, "a.rl\n", ""));
    assert_eq!(std::fs::read_to_string(folder.path().join("a.rl")).unwrap(), UGLY);
    assert_eq!(rlc(folder.path(), &["fmt", "--check", "b.rl"], "").0, 0);
    let (code, out, _) = rlc(folder.path(), &["fmt", "--check", "-"], UGLY);
    assert_eq!((code, out.as_str()), (1, "<stdin>\n"));
}

#[test]
fn stdin_and_stdout() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(rlc(folder.path(), &["fmt", "-"], UGLY), (0, NEAT.to_owned(), String::new()));
    std::fs::write(folder.path().join("a.rl"), UGLY).unwrap();
    assert_eq!(rlc(folder.path(), &["fmt", "a.rl", "--stdout"], "").1, NEAT);
    assert_eq!(std::fs::read_to_string(folder.path().join("a.rl")).unwrap(), UGLY);
}

#[test]
fn what_cannot_be_read_stays_and_the_rest_is_formatted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.rl"), "x = (1\n").unwrap();
    std::fs::write(folder.path().join("ugly.rl"), UGLY).unwrap();
    let (code, _, err) = rlc(folder.path(), &["fmt", "bad.rl", "none.rl", "ugly.rl"], "");
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("E0002") && err.contains("bad.rl:1:"), "{err}");
    assert!(err.contains("cannot read `none.rl`"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.path().join("bad.rl")).unwrap(), "x = (1\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("ugly.rl")).unwrap(), NEAT);
    assert_eq!(rlc(folder.path(), &["fmt"], "").0, 2);
}
