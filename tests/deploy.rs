//! What docs/deploy holds can be used as it stands there: systemd takes the units, and what the container file names is there and means
//! something to this lastword. (A container is not built here: that needs somebody who runs containers.)

use std::{fs, path::Path, process::Command};

/// A file of docs/deploy.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy").join(name)).expect("a text")
}

/// What stands behind this word at the beginning of a line.
fn all<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(word)).map(str::trim).collect()
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = |name: &str| folder.path().join(name);
    // The one thing that is not where it will be.
    let service = file("lastword.service").replace("/usr/local/bin/lastword", env!("CARGO_BIN_EXE_lastword"));
    fs::write(unit("lastword.service"), service).expect("written");
    fs::write(unit("lastword.socket"), file("lastword.socket")).expect("written");
    let verify = |what: &str| {
        let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit(what)).output();
        let said =
            said.expect("this test needs systemd-analyze: `apt-get install systemd`, or `tests/run`, which does that");
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        // It also looks at units that are none of ours.
        said.lines().filter(|line| line.contains("lastword")).map(str::to_owned).collect::<Vec<_>>()
    };
    for name in ["lastword.service", "lastword.socket"] {
        assert_eq!(verify(name), Vec::<String>::new());
    }
    fs::write(unit("lastword.service"), file("lastword.service").replace("Type=notify", "Typ=notify"))
        .expect("written");
    assert_ne!(verify("lastword.service"), Vec::<String>::new(), "it does look");
}

#[test]
fn it_is_stopped_no_sooner_than_it_drains() {
    let drain = lastword::server::config::Config::default().drain;
    let service = file("lastword.service");
    let [stop] = all(&service, "TimeoutStopSec=")[..] else { panic!("one timeout") };
    assert!(humantime::parse_duration(stop).expect("a duration") > drain + std::time::Duration::from_secs(5));
}

#[test]
fn what_the_container_file_names_is_there_and_the_server_knows_its_variables() {
    let text = file("Containerfile");
    let copied = all(&text, "COPY ").into_iter().filter(|copy| !copy.starts_with("--from"));
    for copy in copied {
        let (sources, _) = copy.rsplit_once(' ').expect("from and to");
        for source in sources.split(' ') {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists(), "{source}");
        }
    }
    let manifest = include_str!("../Cargo.toml");
    let [version] = all(manifest, "rust-version = ")[..] else { panic!("one version") };
    assert!(text.contains(&format!("rust:{}-", version.trim_matches('"'))), "the oldest compiler that will do");
    let check = |more: &[(&str, &str)]| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
        command.arg("check").current_dir(folder.path()).env_clear();
        command.envs(all(&text, "ENV ").iter().map(|pair| pair.split_once('=').expect("a pair")));
        let done = command.envs(more.iter().copied()).output().expect("it runs");
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (right, said) = check(&[]);
    assert!(!right && said.contains("lastword keys new NAME"), "it says what it lacks: {said}");
    let (right, said) = check(&[("LASTWORD_AUTH__OFF", "true")]);
    assert!(right, "{said}");
}
