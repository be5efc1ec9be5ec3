//! A deployment that cannot work says so at its start, in the log.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_mistyped_parameter_is_one_line_of_the_log() {
    let mut function = Command::new(env!("CARGO_BIN_EXE_add-service"));
    function.env_clear().envs([
        ("BACKEND_URL", "https://backend.example"),
        ("DEPLOYMENT_KEY_ID", "key"),
        ("FORGE_APP_PUBLIC_KEY", "{\"keys\":[{\"kty\":\"OKP\"}]"),
        ("TABLE_NAME", "table"),
        ("WRAPPING_KEY_ID", "key"),
    ]);
    let ended = function.output().unwrap();
    assert!(!ended.status.success());
    let line: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"cannot start".into()));
    assert!(line["error"].as_str().unwrap().contains("FORGE_APP_PUBLIC_KEY"), "{line}");
}
